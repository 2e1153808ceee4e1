/** The run's tasks, in the order they were called. */

import { formatClock, formatDuration } from "../format";
import type { RunModel } from "../model";
import type { Task } from "../protocol";
import { isTerminal, stateLabel } from "../states";
import { useTicks } from "./hooks";
import { StateIcon } from "./icons";
import { VirtualList } from "./virtual";

const ROW_HEIGHT = 22;

export function Tasks({ model }: { model: RunModel }) {
  useTicks(model.active, 1000);
  const count = model.run?.task_count ?? 0;
  return (
    <VirtualList
      count={count}
      rowHeight={ROW_HEIGHT}
      onRange={(start, stop) => model.needTasks(start, Math.max(stop, start + 1))}
      row={(index) => {
        const task = model.tasks.get(index);
        return task ? <Row task={task} now={model.now()} depth={depth(model, task)} /> : null;
      }}
      label="Tasks"
      role="list"
    />
  );
}

/** How deep a task is nested, as far as the tasks it was called in are known. */
function depth(model: RunModel, task: Task): number {
  let found = 0;
  let parent = task.parent;
  while (parent !== null && found < 6) {
    found++;
    parent = model.tasks.get(parent)?.parent ?? null;
  }
  return found;
}

function Row({ task, now, depth }: { task: Task; now: number; depth: number }) {
  const took = task.started === null ? null : (task.ended ?? now) - task.started;
  const time =
    took === null ? "" : isTerminal(task.state_type) ? formatDuration(took) : formatClock(took);
  return (
    <div class="jf-task" role="listitem" data-number={task.number} data-state={task.state_type}>
      <StateIcon type={task.state_type} />
      <span class="jf-task-state">{stateLabel(task)}</span>
      <span class="jf-task-name" style={{ paddingLeft: `${depth * 14}px` }} title={task.name}>
        {task.name}
      </span>
      <span class="jf-dim jf-task-message" title={task.state_message}>
        {isTerminal(task.state_type) && task.state_type !== "COMPLETED" ? task.state_message : ""}
      </span>
      <span class="jf-dim">{task.attempt > 1 ? `attempt ${task.attempt}` : ""}</span>
      <span class="jf-task-time">{time}</span>
    </div>
  );
}
