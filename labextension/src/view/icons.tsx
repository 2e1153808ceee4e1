/** Small pictures, drawn here so that they are there in every front end. They say nothing alone. */

import type { ComponentChildren } from "preact";

function Icon({ className, children }: { className?: string; children: ComponentChildren }) {
  return (
    <svg
      class={`jf-icon ${className ?? ""}`}
      viewBox="0 0 16 16"
      fill="none"
      stroke="currentColor"
      stroke-width="1.6"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      {children}
    </svg>
  );
}

const STATE_SHAPES: Record<string, ComponentChildren> = {
  SCHEDULED: (
    <>
      <circle cx="8" cy="8" r="6" />
      <path d="M8 4.8V8l2.2 1.6" />
    </>
  ),
  PENDING: <circle cx="8" cy="8" r="6" stroke-dasharray="1.4 3.3" />,
  RUNNING: (
    <>
      <circle cx="8" cy="8" r="6" opacity="0.3" />
      <path class="jf-turning" d="M8 2a6 6 0 0 1 6 6" />
    </>
  ),
  PAUSED: (
    <>
      <circle cx="8" cy="8" r="6" />
      <path d="M6.4 6v4M9.6 6v4" />
    </>
  ),
  CANCELLING: (
    <>
      <circle cx="8" cy="8" r="6" stroke-dasharray="2.4 2.3" />
      <path d="M6.2 6.2l3.6 3.6M9.8 6.2L6.2 9.8" />
    </>
  ),
  COMPLETED: (
    <>
      <circle cx="8" cy="8" r="6" />
      <path d="M5.4 8.2l1.8 1.8 3.4-3.8" />
    </>
  ),
  FAILED: (
    <>
      <circle cx="8" cy="8" r="6" />
      <path d="M6 6l4 4M10 6l-4 4" />
    </>
  ),
  CANCELLED: (
    <>
      <circle cx="8" cy="8" r="6" />
      <path d="M3.8 3.8l8.4 8.4" />
    </>
  ),
  CRASHED: (
    <>
      <path d="M8 2.2l6.2 11H1.8z" />
      <path d="M8 6.4v3M8 11.4v.1" />
    </>
  ),
};

export function StateIcon({ type }: { type: string }) {
  const known = STATE_SHAPES[type];
  return (
    <Icon className={`jf-state-icon jf-is-${known ? type.toLowerCase() : "unknown"}`}>
      {known ?? <circle cx="8" cy="8" r="6" />}
    </Icon>
  );
}

export const Chevron = () => (
  <Icon className="jf-chevron">
    <path d="M6 4l4 4-4 4" />
  </Icon>
);

export const PauseIcon = () => (
  <Icon>
    <path d="M5.5 4v8M10.5 4v8" />
  </Icon>
);

export const ResumeIcon = () => (
  <Icon>
    <path d="M5.5 3.8v8.4L12 8z" />
  </Icon>
);

export const CancelIcon = () => (
  <Icon>
    <rect x="4" y="4" width="8" height="8" rx="1" />
  </Icon>
);

export const KillIcon = () => (
  <Icon>
    <path d="M4.2 4.2l7.6 7.6M11.8 4.2l-7.6 7.6" />
  </Icon>
);

export const CopyIcon = () => (
  <Icon>
    <rect x="5.5" y="5.5" width="7.5" height="8" rx="1" />
    <path d="M10.5 5.5V3.3a1 1 0 0 0-1-1H4a1 1 0 0 0-1 1v6.4a1 1 0 0 0 1 1h1.5" />
  </Icon>
);

export const RefreshIcon = () => (
  <Icon>
    <path d="M13 8a5 5 0 1 1-1.6-3.7M13 2.6v2.6h-2.6" />
  </Icon>
);

export const DownloadIcon = () => (
  <Icon>
    <path d="M8 2.5v7M5 6.8l3 3 3-3M3 13h10" />
  </Icon>
);

export const WrapIcon = () => (
  <Icon>
    <path d="M2.5 4h11M2.5 8h9a2.2 2.2 0 0 1 0 4.4H8M9.6 10.6L7.8 12.4l1.8 1.8M2.5 12h2.5" />
  </Icon>
);

export const CloseIcon = () => (
  <Icon>
    <path d="M4.5 4.5l7 7M11.5 4.5l-7 7" />
  </Icon>
);

export const DownIcon = () => (
  <Icon>
    <path d="M8 3v9M4.5 8.8L8 12.3l3.5-3.5" />
  </Icon>
);
