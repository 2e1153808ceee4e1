/** The log: the newest lines, or wherever one scrolled to, or what a search found. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { formatCount, formatTime, levelName } from "../format";
import type { RunModel } from "../model";
import type { LogLine } from "../protocol";
import { type Query, Search } from "../search";
import { Ansi } from "./ansi";
import { useRedraw } from "./hooks";
import { CopyIcon, DownIcon, DownloadIcon, WrapIcon } from "./icons";
import { copyText, download, lineAsText, MAX_COPIED, readText } from "./transfer";
import { VirtualList } from "./virtual";

const ROW_HEIGHT = 18;
const MAX_ROWS = 800_000; // browsers cannot scroll much farther; older lines: download
const MAX_DRAWN = 2_000; // characters of a line

export interface LogSettings {
  text: string;
  level: number;
  wrap: boolean;
}

export const INITIAL_LOG_SETTINGS: LogSettings = { text: "", level: 0, wrap: false };

/** Search the log while there is something to search for. */
function useSearch(model: RunModel, query: Query): Search | null {
  const redraw = useRedraw();
  const { text, level } = query;
  const search = useRef<Search | null>(null);
  const [current, setCurrent] = useState<Search | null>(null);
  useEffect(() => {
    if (!text && !level) {
      search.current = null;
      setCurrent(null);
      return;
    }
    const stop = new AbortController();
    const source = {
      get first() {
        return model.lines.first;
      },
      get count() {
        return model.lines.count;
      },
      read: (start: number, end: number) => model.read(start, end),
    };
    const timer = setTimeout(() => {
      search.current = new Search(source, { text, level }, redraw, stop.signal);
      setCurrent(search.current);
      void search.current.advance();
    }, 150); // one search for a word typed
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [model, text, level, redraw]);
  const { count } = model.lines;
  useEffect(() => void search.current?.advance(), [count]);
  return text || level ? current : null;
}

interface Props {
  model: RunModel;
  settings: LogSettings;
}

export function Logs({ model, settings }: Props) {
  const { lines, run } = model;
  const [follow, setFollow] = useState(!model.ended || !model.run?.ended);
  const search = useSearch(model, settings);
  useEffect(() => model.reachBack(), [model, model.status.transport]);

  const saved = model.status.source === "saved";
  const searching = Boolean(settings.text || settings.level);
  const begin = Math.max(lines.first, lines.count - MAX_ROWS);
  const live = searching || model.ended ? [] : (run?.live ?? []);
  const length = searching ? (search?.found.length ?? 0) : lines.count - begin;
  const count = length + live.length;

  function row(index: number) {
    const past = index - length;
    if (past >= 0) {
      const [source, text] = live[past] ?? ["", ""];
      return <LiveRow source={source} text={text} />;
    }
    const line = searching ? search?.found[index] : lines.get(begin + index);
    if (line) return <Row line={line} />;
    const number = begin + index;
    return (
      <div class="jf-line jf-absent" data-number={number}>
        {lines.isGone(number) ? `line ${formatCount(number)} is no longer kept` : "…"}
      </div>
    );
  }

  return (
    <div class="jf-logs">
      <VirtualList
        count={count}
        rowHeight={ROW_HEIGHT}
        measured={settings.wrap}
        follow={follow}
        onFollow={setFollow}
        onRange={(start, stop) => {
          if (!searching && stop > start) model.needLines(begin + start, begin + stop);
        }}
        row={row}
        rowKey={(index) =>
          index >= length
            ? `live-${index - length}`
            : searching
              ? (search?.found[index]?.number ?? index)
              : begin + index
        }
        label="Log"
        role="log"
      />
      <div class="jf-log-foot">
        <span>{footnote(search, searching, saved ? begin : begin - lines.first, saved)}</span>
        {!model.ended && !saved && (
          <button
            type="button"
            class="jf-link"
            aria-pressed={follow}
            onClick={() => setFollow(!follow)}
          >
            {follow ? (
              "following"
            ) : (
              <>
                <DownIcon /> follow
              </>
            )}
          </button>
        )}
      </div>
    </div>
  );
}

function footnote(
  search: Search | null,
  searching: boolean,
  before: number,
  saved: boolean,
): string {
  if (!searching) {
    if (saved) return before > 0 ? `${formatCount(before)} earlier lines were not saved` : "";
    return before > 0 ? `${formatCount(before)} earlier lines: download the log to read them` : "";
  }
  if (!search) return "searching…";
  const found = `${formatCount(search.found.length)} ${search.found.length === 1 ? "line" : "lines"}`;
  if (search.cut) return `the newest ${found} found; search for more to find fewer`;
  return search.busy
    ? `${found} found, ${formatCount(search.scanned)} lines searched…`
    : `${found} found`;
}

function Row({ line }: { line: LogLine }) {
  const { message } = line;
  const more = message.length - MAX_DRAWN;
  const warns = line.level >= 30;
  const plain = line.source === "stdout" || line.source === "";
  return (
    <div
      class={`jf-line ${line.level >= 40 ? "jf-error" : warns ? "jf-warning" : ""}`}
      data-number={line.number}
    >
      <span class="jf-time">{formatTime(line.time)}</span>
      <span class="jf-message">
        {warns && <span class="jf-level">{levelName(line.level)}</span>}
        {!plain && <span class="jf-source">{line.source}</span>}
        <Ansi text={more > 0 ? message.slice(0, MAX_DRAWN) : message} />
        {more > 0 && <span class="jf-source"> … {formatCount(more)} more characters</span>}
      </span>
    </div>
  );
}

function LiveRow({ source, text }: { source: string; text: string }) {
  const current = text.slice(text.lastIndexOf("\r") + 1).slice(0, MAX_DRAWN);
  return (
    <div class="jf-line jf-live-line">
      <span class="jf-time">now</span>
      <span class="jf-message">
        {source !== "stdout" && <span class="jf-source">{source}</span>}
        <Ansi text={current} />
      </span>
    </div>
  );
}

interface ToolsProps extends Props {
  onSettings: (settings: LogSettings) => void;
}

export function LogTools({ model, settings, onSettings }: ToolsProps) {
  const [said, setSaid] = useState("");
  const canFetch = model.status.transport !== null;
  const quiet = useMemo(() => ({ timer: 0 }), []);

  function say(text: string) {
    setSaid(text);
    clearTimeout(quiet.timer);
    quiet.timer = window.setTimeout(() => setSaid(""), 3000);
  }

  async function copy() {
    const { first, count } = model.lines;
    const start = Math.max(first, count - MAX_COPIED);
    try {
      const parts = canFetch
        ? await readText(model, start, count, () => {})
        : model.lines.all().map(lineAsText);
      await copyText(parts.join(""));
      say(start > first ? `Copied the newest ${formatCount(MAX_COPIED)} lines` : "Copied");
    } catch {
      say("Could not copy");
    }
  }

  async function save() {
    const { first, count } = model.lines;
    try {
      const parts = canFetch
        ? await readText(model, first, count, (lines) => say(`${formatCount(lines)} lines…`))
        : model.lines.all().map(lineAsText);
      download(model.name, parts);
      say("Downloaded");
    } catch {
      say("Could not read the whole log");
    }
  }

  return (
    <div class="jf-tools">
      <span class="jf-said" role="status">
        {said}
      </span>
      <input
        class="jf-field jf-search"
        type="search"
        placeholder="Search"
        aria-label="Search the log"
        value={settings.text}
        onInput={(event) => onSettings({ ...settings, text: event.currentTarget.value })}
      />
      <select
        class="jf-field"
        aria-label="Least level"
        value={String(settings.level)}
        onChange={(event) => onSettings({ ...settings, level: Number(event.currentTarget.value) })}
      >
        <option value="0">All levels</option>
        <option value="20">Info and up</option>
        <option value="30">Warnings and up</option>
        <option value="40">Errors</option>
      </select>
      <button
        type="button"
        class="jf-tool"
        aria-label="Wrap long lines"
        title="Wrap long lines"
        aria-pressed={settings.wrap}
        onClick={() => onSettings({ ...settings, wrap: !settings.wrap })}
      >
        <WrapIcon />
      </button>
      <button
        type="button"
        class="jf-tool"
        aria-label="Copy the log"
        title="Copy the log"
        onClick={() => void copy()}
      >
        <CopyIcon />
      </button>
      <button
        type="button"
        class="jf-tool"
        aria-label="Download the log"
        title="Download the log"
        onClick={() => void save()}
      >
        <DownloadIcon />
      </button>
    </div>
  );
}
