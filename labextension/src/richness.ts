/**
 * Rich outputs where no rendermime is at hand: outside JupyterLab. Only forms that can do nothing
 * are shown: images as `<img>`, which run no scripts, HTML in a sandboxed frame, and text, which
 * Markdown is here too.
 */

import { stripAnsi } from "./ansi";
import type { Output } from "./protocol";

const MAX_FRAME_HEIGHT = 400;

/** Draws a rich output into a place, until the returned function is called. */
export type RenderOutput = (output: Output, place: HTMLElement) => () => void;

export const renderPlainly: RenderOutput = (output, place) => {
  place.replaceChildren(plainNode(output.data));
  return () => place.replaceChildren();
};

function joined(value: unknown): string | null {
  if (typeof value === "string") return value;
  return Array.isArray(value) && value.every((part) => typeof part === "string")
    ? value.join("")
    : null;
}

function plainNode(data: Record<string, unknown>): HTMLElement {
  for (const type of ["image/png", "image/jpeg", "image/gif"]) {
    const encoded = joined(data[type]);
    if (encoded) return image(`data:${type};base64,${encoded.replace(/\s/g, "")}`, data);
  }
  const svg = joined(data["image/svg+xml"]);
  if (svg) return image(`data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`, data);
  const html = joined(data["text/html"]);
  if (html) return frame(html);
  const pre = document.createElement("pre");
  pre.className = "jf-plain";
  pre.textContent = stripAnsi(
    joined(data["text/markdown"]) ??
      joined(data["text/plain"]) ??
      "This output has no form to show here.",
  );
  return pre;
}

function image(source: string, data: Record<string, unknown>): HTMLElement {
  const node = document.createElement("img");
  node.src = source;
  node.alt = joined(data["text/plain"]) ?? "output";
  return node;
}

function frame(html: string): HTMLElement {
  const node = document.createElement("iframe");
  node.className = "jf-frame";
  node.title = "HTML output";
  node.setAttribute("sandbox", "allow-same-origin"); // no scripts, no forms; we may measure it
  node.addEventListener("load", () => {
    const height = node.contentDocument?.documentElement.scrollHeight ?? 0;
    if (height) node.style.height = `${Math.min(height, MAX_FRAME_HEIGHT) + 2}px`;
  });
  node.srcdoc = `<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy"
    content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"><style>
    html { background: #fff; color: #111 }
    body { margin: 0; padding: 4px; font: 13px system-ui, sans-serif; display: flow-root }
    table { border: 0; border-collapse: collapse; font-size: 12px }
    th, td { border: 0; padding: 4px 8px; text-align: right }
    thead { border-bottom: 1px solid #bbb }</style>${html}`;
  return node;
}
