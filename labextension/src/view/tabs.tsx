/** A row of tabs, of which exactly one is chosen; arrows, Home and End move along it. */

import type { ComponentChildren } from "preact";
import { useRef } from "preact/hooks";
import { formatCount } from "../format";

export interface Tab {
  id: string;
  label: string;
  count?: number;
}

interface Props {
  tabs: Tab[];
  chosen: string;
  prefix: string; // makes the ids of this view's elements unique in the page
  onChoose: (id: string) => void;
  children?: ComponentChildren; // tools at the row's end
}

export function Tabs({ tabs, chosen, prefix, onChoose, children }: Props) {
  const row = useRef<HTMLDivElement>(null);

  function onKeyDown(event: KeyboardEvent) {
    const at = tabs.findIndex((tab) => tab.id === chosen);
    const to = {
      ArrowRight: (at + 1) % tabs.length,
      ArrowLeft: (at - 1 + tabs.length) % tabs.length,
      Home: 0,
      End: tabs.length - 1,
    }[event.key];
    const tab = to === undefined ? undefined : tabs[to];
    if (!tab) return;
    event.preventDefault();
    onChoose(tab.id);
    row.current?.querySelector<HTMLElement>(`#${prefix}-tab-${tab.id}`)?.focus();
  }

  return (
    <div class="jf-tabs">
      <div class="jf-tablist" role="tablist" ref={row} onKeyDown={onKeyDown}>
        {tabs.map((tab) => (
          <button
            key={tab.id}
            type="button"
            role="tab"
            id={`${prefix}-tab-${tab.id}`}
            class="jf-tab"
            aria-selected={tab.id === chosen}
            aria-controls={`${prefix}-panel`}
            tabIndex={tab.id === chosen ? 0 : -1}
            onClick={() => onChoose(tab.id)}
          >
            {tab.label}
            {tab.count !== undefined && <span class="jf-count"> {formatCount(tab.count)}</span>}
          </button>
        ))}
      </div>
      {children}
    </div>
  );
}
