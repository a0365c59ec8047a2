// node asyncapi-check.cjs <parser's browser/index.js> <document>: prints what is wrong with it, one line each; exit status 1 when there is any.
const fs = require("fs");
globalThis.self = globalThis.window = globalThis;
require("vm").runInThisContext(fs.readFileSync(process.argv[2], "utf8"));
(async () => {
  const { document, diagnostics } = await new globalThis.AsyncAPIParser().parse(fs.readFileSync(process.argv[3], "utf8"));
  const wrong = diagnostics.filter((d) => d.severity === 0).map((d) => `${d.path.join(".")}: ${d.message}`);
  for (const line of wrong) console.log(line);
  if (document) console.log(`${document.channels().length} channels, ${document.allMessages().length} messages`);
  process.exit(wrong.length || !document ? 1 : 0);
})();
