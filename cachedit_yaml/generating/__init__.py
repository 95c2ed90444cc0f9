"""Run a pipeline for people: its call, its pictures, how near and how fast they are."""
