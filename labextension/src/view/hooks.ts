/** Hooks that the parts of the view share. */

import { useEffect, useReducer, useRef, useState } from "preact/hooks";
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
