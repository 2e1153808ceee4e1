/** What is known of a run beside its log: parameters, times, transitions, result. */

import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { formatDuration, formatMoment, formatTime } from "../format";
import type { RunModel } from "../model";
import { stateLabel } from "../states";
import { elapsed, paused } from "../timing";
import { Ansi } from "./ansi";
import { StateIcon } from "./icons";
import { toldWaiting } from "./waiting";

export function Details({ model, onWhere }: { model: RunModel; onWhere: () => void }) {
  useEffect(() => model.needTransitions());
  const { run } = model;
  if (!run) return <p class="jf-empty">Nothing was saved of this run.</p>;
  const took = run.ended === null ? null : elapsed(run, run.ended);
  const pause = run.ended === null ? 0 : paused(run, run.ended);
  const parameters = Object.entries(run.parameters);
  const metadata = Object.entries(run.metadata);
  const told = toldWaiting(model);
  const said = (message: string) =>
    message && message !== told && <span class="jf-dim"> {message}</span>;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: so that the keyboard can scroll it
    <div class="jf-details" tabIndex={0} role="group" aria-label="Details">
      <dl>
        <Item name="State">
          {stateLabel(run)}
          {said(run.state_message)}
        </Item>
        {run.result !== null && (
          <Item name="Result">
            <code>
              <Ansi text={run.result} />
            </code>
          </Item>
        )}
        {parameters.length > 0 && (
          <Item name="Parameters">
            {parameters.map(([name, value]) => (
              <div key={name}>
                <code>
                  {name} = <Ansi text={value} />
                </code>
              </div>
            ))}
          </Item>
        )}
        {run.tags.length > 0 && (
          <Item name="Tags">
            {run.tags.map((tag) => (
              <span key={tag} class="jf-tag">
                {tag}
              </span>
            ))}
          </Item>
        )}
        {metadata.length > 0 && (
          <Item name="Metadata">
            {metadata.map(([name, value]) => (
              <div key={name}>
                <span class="jf-dim">{name}:</span> {value}
              </div>
            ))}
          </Item>
        )}
        {run.flow !== run.name && run.flow && <Item name="Flow">{run.flow}</Item>}
        <Item name="Worker">{run.on}</Item>
        {model.locatable && (
          <Item name="Its code">
            <button type="button" class="jf-button jf-small" onClick={onWhere}>
              Where is it?
            </button>
          </Item>
        )}
        <Item name="Created">{formatMoment(run.created)}</Item>
        {run.started !== null && <Item name="Started">{formatMoment(run.started)}</Item>}
        {run.ended !== null && <Item name="Ended">{formatMoment(run.ended)}</Item>}
        {took !== null && (
          <Item name="Took">
            {formatDuration(took)}
            {pause >= 0.001 && <span class="jf-dim"> and {formatDuration(pause)} paused</span>}
          </Item>
        )}
        <Item name="Run id">
          <code>{run.id}</code>
        </Item>
        {run.replay_of && (
          <Item name="Replay of">
            <code>{run.replay_of}</code>
          </Item>
        )}
        {run.parent && (
          <Item name="Called by">
            <code>{run.parent}</code>
          </Item>
        )}
        {model.transitions.length > 0 && (
          <Item name="History">
            <ol class="jf-history">
              {model.transitions.map((move, index) => (
                <li key={index}>
                  <span class="jf-time">{formatTime(move.time)}</span>
                  <StateIcon type={move.type} />
                  <span>
                    {stateLabel({ state_type: move.type, state_name: move.name })}
                    {said(move.message)}
                  </span>
                </li>
              ))}
            </ol>
          </Item>
        )}
      </dl>
    </div>
  );
}

function Item({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </>
  );
}
