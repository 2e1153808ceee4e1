// Bundles the widget for anywidget: one ES module and one style sheet. With --demo, serves the
// demo page instead, which shows every state of the view on a made-up kernel.
import { build, context } from "esbuild";

const common = {
  bundle: true,
  format: "esm",
  target: "es2022",
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "inline",
};

if (process.argv.includes("--demo")) {
  const demo = await context({
    ...common,
    entryPoints: { demo: "demo/demo.tsx", style: "style/index.css" },
    outdir: "demo/build",
    sourcemap: "inline",
  });
  const { port } = await demo.serve({ servedir: "demo", host: "127.0.0.1", port: 8790 });
  console.log(`http://127.0.0.1:${port}/`);
} else {
  await build({
    ...common,
    entryPoints: { widget: "src/widget.ts" },
    outdir: "../jupyter_flows/static",
    minify: true,
  });
  await build({
    entryPoints: { widget: "style/index.css" },
    outdir: "../jupyter_flows/static",
    minify: true,
    bundle: true,
  });
}
