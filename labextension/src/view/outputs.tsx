/** The run's rich outputs, each drawn by whoever shows the view. */

import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { RunModel } from "../model";
import type { Output } from "../protocol";
import type { RenderOutput } from "../richness";

interface Props {
  model: RunModel;
  render: RenderOutput;
}

export function Outputs({ model, render }: Props) {
  useEffect(() => model.needOutputs());
  const outputs = model.outputNumbers
    .map((number) => model.outputs.get(number))
    .filter((output) => output !== undefined);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: so that the keyboard can scroll it
    <div class="jf-outputs" tabIndex={0} role="group" aria-label="Output">
      {outputs.map((output) => (
        <OneOutput key={output.number} output={output} render={render} />
      ))}
    </div>
  );
}

function OneOutput({ output, render }: { output: Output; render: RenderOutput }) {
  const place = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    return place.current ? render(output, place.current) : undefined;
  }, [output, render]);
  return <div class="jf-output" ref={place} />;
}
