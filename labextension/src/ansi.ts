/**
 * Text with terminal escapes, as pieces of plain text with classes. Never HTML.
 *
 * Only colours and decorations (SGR) are honoured. A terminal link keeps its text and loses its
 * address; every other escape and control character is dropped.
 */

import Anser from "anser";

export interface Piece {
  text: string;
  className: string;
  color?: string; // a colour that has no class: of the 256, or of the 16 million
  background?: string;
}

// An OSC escape (a link, a title) up to its end, or to the end of the text when it has none.
const OSC = /(?:\u001b\]|\u009d)[^\u0007\u001b\u009c]*(?:\u0007|\u001b\\|\u009c|$)/g;
// Other strings for the terminal: DCS, SOS, PM, APC.
const STRING = /\u001b[PX^_][^\u001b\u009c]*(?:\u001b\\|\u009c|$)/g;
const CSI = /(?:\u001b\[|\u009b)([0-9:;<=>?]*)[ -/]*([@-~]|$)/g;
const ESCAPE = /\u001b(?!\[[0-9;]*m)[ -/]*[0-~]?/g;
const CONTROL = /[\u0000-\u0008\u000b-\u001a\u001c-\u001f\u007f-\u009f]/g;

function keepColours(text: string): string {
  return text
    .replace(OSC, "")
    .replace(STRING, "")
    .replace(CSI, (_, parameters: string, end: string) =>
      end === "m" && /^[0-9;:]*$/.test(parameters)
        ? `\u001b[${parameters.replaceAll(":", ";")}m`
        : "",
    )
    .replace(ESCAPE, "")
    .replace(CONTROL, "");
}

export function stripAnsi(text: string): string {
  return ansiPieces(text)
    .map((piece) => piece.text)
    .join("");
}

export function ansiPieces(text: string): Piece[] {
  const kept = keepColours(text);
  if (!kept.includes("\u001b")) return kept ? [{ text: kept, className: "" }] : [];
  return Anser.ansiToJson(kept, { json: true, remove_empty: true, use_classes: true }).map(
    (entry) => {
      const classes = entry.decorations.map((name) => `jf-ansi-${name}`);
      const piece: Piece = { text: entry.content, className: "" };
      const color = colour(entry.fg, entry.fg_truecolor);
      const background = colour(entry.bg, entry.bg_truecolor);
      if (color?.startsWith("rgb")) piece.color = color;
      else if (color) classes.push(`jf-${color}`);
      if (background?.startsWith("rgb")) piece.background = background;
      else if (background) classes.push(`jf-${background}-bg`);
      piece.className = classes.join(" ");
      return piece;
    },
  );
}

/** A class such as `ansi-bright-red`, or `rgb(…)`. */
function colour(name: string | null, truecolor: string | null): string | null {
  if (!name) return null;
  if (name === "ansi-truecolor") return truecolor ? `rgb(${truecolor})` : null;
  const palette = /^ansi-palette-(\d+)$/.exec(name);
  return palette ? paletteColour(Number(palette[1])) : name;
}

/** The colours 16 to 255 of a terminal: a cube of 6 × 6 × 6, then 24 greys. */
function paletteColour(index: number): string {
  if (index >= 232) {
    const grey = 8 + (index - 232) * 10;
    return `rgb(${grey}, ${grey}, ${grey})`;
  }
  const level = (step: number) => (step ? 55 + step * 40 : 0);
  const cell = index - 16;
  const [r, g, b] = [Math.floor(cell / 36), Math.floor(cell / 6) % 6, cell % 6];
  return `rgb(${level(r)}, ${level(g)}, ${level(b)})`;
}
