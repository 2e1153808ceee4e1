/** Text with ANSI colours, as text nodes. */

import { useMemo } from "preact/hooks";
import { ansiPieces, type Piece } from "../ansi";

export function Ansi({ text }: { text: string }) {
  const pieces = useMemo(() => ansiPieces(text), [text]);
  return (
    <>
      {pieces.map((piece, index) =>
        piece.className || piece.color || piece.background ? (
          <Coloured key={index} piece={piece} />
        ) : (
          piece.text
        ),
      )}
    </>
  );
}

/** A colour is made readable on the front end's background, not on one that came with it. */
function Coloured({ piece }: { piece: Piece }) {
  const { text, className, color, background } = piece;
  return color && !background ? (
    <span class={`${className} jf-own-color`} style={{ "--jf-own": color }}>
      {text}
    </span>
  ) : (
    <span class={className} style={{ color, backgroundColor: background }}>
      {text}
    </span>
  );
}
