/**
 * A list of which only the rows that can be seen are drawn.
 *
 * It follows its end while `follow`; scrolling up asks to stop following, scrolling to the end to
 * follow again. Rows are `rowHeight` high, or, with `measured`, as high as they turn out.
 */

import {
  elementScroll,
  observeElementOffset,
  observeElementRect,
  Virtualizer,
} from "@tanstack/virtual-core";
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { useRedraw } from "./hooks";

interface Props {
  count: number;
  rowHeight: number;
  measured?: boolean;
  follow?: boolean;
  onFollow?: (follow: boolean) => void;
  /** Called after each drawing with the rows that are there: `start` to before `stop`. */
  onRange: (start: number, stop: number) => void;
  row: (index: number) => ComponentChildren;
  rowKey?: (index: number) => number | string;
  label: string;
  role: "log" | "list";
}

export function VirtualList(props: Props) {
  const { count, rowHeight, measured = false, follow = false, onFollow, onRange } = props;
  const redraw = useRedraw();
  const scroller = useRef<HTMLDivElement>(null);
  const top = useRef(0);

  const options = {
    count,
    getScrollElement: () => scroller.current,
    estimateSize: () => rowHeight,
    getItemKey: props.rowKey ?? ((index: number) => index),
    overscan: 8,
    scrollToFn: elementScroll,
    observeElementRect,
    observeElementOffset,
    onChange: redraw,
  };
  const [virtualizer] = useState(() => new Virtualizer<HTMLDivElement, HTMLElement>(options));
  virtualizer.setOptions(options);
  useLayoutEffect(() => virtualizer._didMount(), [virtualizer]);
  useLayoutEffect(() => virtualizer._willUpdate());
  useLayoutEffect(() => virtualizer.measure(), [virtualizer, measured, rowHeight]);

  useLayoutEffect(() => {
    const element = scroller.current;
    if (follow && element) {
      element.scrollTop = element.scrollHeight;
      top.current = element.scrollTop;
    }
  });

  const items = virtualizer.getVirtualItems();
  const start = items[0]?.index ?? 0;
  const stop = (items.at(-1)?.index ?? -1) + 1;
  useEffect(() => onRange(start, stop));

  function onScroll() {
    const element = scroller.current;
    if (!element || !onFollow) return;
    const atEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 4;
    if (atEnd) onFollow(true);
    else if (element.scrollTop < top.current) onFollow(false); // only a person scrolls up
    top.current = element.scrollTop;
  }

  return (
    <div
      ref={scroller}
      class={`jf-scroll ${measured ? "jf-measured" : ""}`}
      role={props.role}
      aria-label={props.label}
      aria-live="off"
      tabIndex={0}
      onScroll={onScroll}
    >
      <div class="jf-rows" style={{ height: `${virtualizer.getTotalSize()}px` }}>
        <div class="jf-window" style={{ transform: `translateY(${items[0]?.start ?? 0}px)` }}>
          {items.map((item) => (
            <div
              key={item.key}
              class="jf-row"
              data-index={item.index}
              ref={measured ? (node) => virtualizer.measureElement(node) : null}
              style={measured ? {} : { height: `${rowHeight}px` }}
            >
              {props.row(item.index)}
            </div>
          ))}
        </div>
      </div>
    </div>
  );
}
