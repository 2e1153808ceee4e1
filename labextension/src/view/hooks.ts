/** Hooks that the parts of the view share. */

import { useEffect, useLayoutEffect, useReducer, useRef, useState } from "preact/hooks";
import type { RunModel } from "../model";

export function useRedraw(): () => void {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  return redraw as () => void;
}

/** Draw again whenever the model has changed. */
export function useModel(model: RunModel): void {
  const redraw = useRedraw();
  useEffect(() => model.subscribe(redraw), [model, redraw]);
}

/** Draw again as time passes, while `ticking`. */
export function useTicks(ticking: boolean, milliseconds = 250): void {
  const redraw = useRedraw();
  useEffect(() => {
    if (!ticking) return;
    const timer = setInterval(redraw, milliseconds);
    return () => clearInterval(timer);
  }, [ticking, milliseconds, redraw]);
}

/** Whether a condition has held for as long as that. */
export function useLasting(condition: boolean, milliseconds: number): boolean {
  const [lasting, setLasting] = useState(false);
  useEffect(() => {
    if (!condition) return setLasting(false);
    const timer = setTimeout(() => setLasting(true), milliseconds);
    return () => clearTimeout(timer);
  }, [condition, milliseconds]);
  return condition && lasting;
}

/** The value that an expression had when the component was drawn before. */
export function usePrevious<T>(value: T): T | undefined {
  const ref = useRef<T | undefined>(undefined);
  useEffect(() => {
    ref.current = value;
  });
  return ref.current;
}

/**
 * Keep the keyboard's place: when what has the focus vanishes, such as a button of a run that
 * ends, the focus goes to what `next` finds. What was clicked has no place to keep.
 *
 * @param next is told whether what vanished was part of a tab's panel
 * @returns what is to hear where the focus is
 */
export function useKeptFocus(next: (inPanel: boolean) => HTMLElement | null | undefined): {
  onFocusIn: (event: FocusEvent) => void;
  onFocusOut: (event: FocusEvent) => void;
} {
  const focused = useRef<{ element: Element; inPanel: boolean } | null>(null);
  useLayoutEffect(() => {
    if (!focused.current || focused.current.element.isConnected) return;
    const { inPanel } = focused.current;
    focused.current = null;
    const { activeElement, body } = document;
    if (!activeElement || activeElement === body) next(inPanel)?.focus({ preventScroll: true });
  });
  return {
    onFocusIn({ target }) {
      focused.current =
        target instanceof Element && target.matches(":focus-visible")
          ? { element: target, inPanel: target.closest(".jf-panel") !== null }
          : null;
    },
    onFocusOut({ target }) {
      // some browsers also tell of what is being removed, which is no longer connected then
      queueMicrotask(() => {
        const element = focused.current?.element;
        if (element === target && element?.isConnected) focused.current = null;
      });
    },
  };
}
