/** Text with ANSI colours, as text nodes. */

import { useMemo } from "preact/hooks";
import { ansiPieces } from "../ansi";

export function Ansi({ text }: { text: string }) {
  const pieces = useMemo(() => ansiPieces(text), [text]);
  return (
    <>
      {pieces.map((piece, index) =>
        piece.className || piece.color || piece.background ? (
          <span
            key={index}
            class={piece.className}
            style={{ color: piece.color, backgroundColor: piece.background }}
          >
            {piece.text}
          </span>
        ) : (
          piece.text
        ),
      )}
    </>
  );
}
