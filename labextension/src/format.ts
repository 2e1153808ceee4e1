/** Numbers and times as people read them. Durations are seconds. */

const NUMBER = new Intl.NumberFormat("en-US");
const SHORT = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

export function formatCount(value: number): string {
  return NUMBER.format(value);
}

function two(value: number): string {
  return String(value).padStart(2, "0");
}

/** A running clock: `00:42`, `1:02:03`, `2 d 01:02:03`. */
export function formatClock(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const minutes = two(Math.floor(whole / 60) % 60);
  const hours = Math.floor(whole / 3600) % 24;
  const days = Math.floor(whole / 86400);
  const rest = `${minutes}:${two(whole % 60)}`;
  if (days) return `${days} d ${two(hours)}:${rest}`;
  return hours ? `${hours}:${rest}` : rest;
}

/** A duration that stands still: `35 ms`, `1.2 s`, `4 min 5 s`, `2 h 5 min`. */
export function formatDuration(seconds: number): string {
  const value = Math.max(0, seconds);
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (Number.isInteger(value) && value < 60) return `${value} s`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 ? `${days} d ${hours % 24} h` : `${days} d`;
}

/** How long until something happens: `0.6 s`, `29 s`, `4 min 5 s`. */
export function formatCountdown(seconds: number): string {
  const value = Math.max(0, seconds);
  return value < 9.95 ? `${value.toFixed(1)} s` : formatDuration(Math.round(value));
}

/** How fast: `25/s`, or for slow steps `1.2 s each`. */
export function formatRate(perSecond: number): string {
  if (!(perSecond > 0)) return "";
  return perSecond >= 1 ? `${SHORT.format(perSecond)}/s` : `${formatDuration(1 / perSecond)} each`;
}

/** The time of day of a line, by the reader's clock: `12:01:03.120`. */
export function formatTime(time: number): string {
  const date = new Date(time * 1000);
  const milliseconds = String(date.getMilliseconds()).padStart(3, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${milliseconds}`;
}

/** A moment with its day: `2026-11-21 12:01:03`. */
export function formatMoment(time: number): string {
  const date = new Date(time * 1000);
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

const LEVELS: [number, string][] = [
  [50, "CRITICAL"],
  [40, "ERROR"],
  [30, "WARNING"],
  [20, "INFO"],
  [10, "DEBUG"],
];

export function levelName(level: number): string {
  return LEVELS.find(([least]) => level >= least)?.[1] ?? "DEBUG";
}
