/** Drawings on a grid of 24 by 24, as SVG's shapes. */

type Shape = [tag: string, attributes: Record<string, string>];

export const ICONS = {
  chat: [["path", { d: "M5 5h14a1.5 1.5 0 0 1 1.5 1.5v9a1.5 1.5 0 0 1-1.5 1.5h-8L6.5 20v-3H5a1.5 1.5 0 0 1-1.5-1.5v-9A1.5 1.5 0 0 1 5 5Z" }]],
  previous: [["path", { d: "m14 7-5 5 5 5" }]],
  next: [["path", { d: "m10 7 5 5-5 5" }]],
  pin: [["path", { d: "M9 4h6l-1 6 3.5 3.5h-11L10 10 9 4ZM12 13.5V20" }]],
  pause: [["path", { d: "M9 6v12M15 6v12" }]],
  check: [["path", { d: "m5 12.5 4.5 4.5L19 7.5" }]],
  chevron: [["path", { d: "m7 10 5 5 5-5" }]],
  chip: [["rect", { x: "7", y: "7", width: "10", height: "10", rx: "2" }], ["path", { d: "M10 4v3M14 4v3M10 17v3M14 17v3M4 10h3M4 14h3M17 10h3M17 14h3" }]],
  close: [["path", { d: "m6 6 12 12M18 6 6 18" }]],
  copy: [["rect", { x: "9", y: "9", width: "11", height: "11", rx: "2" }], ["path", { d: "M15 9V6a2 2 0 0 0-2-2H6a2 2 0 0 0-2 2v7a2 2 0 0 0 2 2h3" }]],
  down: [["path", { d: "M12 5v14M6 13l6 6 6-6" }]],
  download: [["path", { d: "M12 4v11M7.5 10.5 12 15l4.5-4.5M5 19.5h14" }]],
  edit: [["path", { d: "m4 20 .9-4L16 4.9a2 2 0 0 1 2.9 0l.2.2a2 2 0 0 1 0 2.9L8 19.1 4 20Z" }]],
  forward: [["path", { d: "M4 12h15M13 6l6 6-6 6" }]],
  info: [["circle", { cx: "12", cy: "12", r: "8" }], ["path", { d: "M12 11v5M12 8h.01" }]],
  menu: [["path", { d: "M4 7h16M4 12h16M4 17h10" }]],
  moon: [["path", { d: "M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10Z" }]],
  more: [["path", { d: "M6 12h.01M12 12h.01M18 12h.01", "stroke-width": "2.6" }]],
  plus: [["path", { d: "M12 5v14M5 12h14" }]],
  retry: [["path", { d: "M19.5 12a7.5 7.5 0 1 1-2.2-5.3L20 9.4M20 4.5v4.9h-4.9" }]],
  send: [["path", { d: "M12 19V5M6 11l6-6 6 6" }]],
  share: [["path", { d: "M12 15V4M8 7.5 12 3.5l4 4M6 11.5v7A1.5 1.5 0 0 0 7.5 20h9a1.5 1.5 0 0 0 1.5-1.5v-7" }]],
  sliders: [["path", { d: "M4 8h9M19 8h1M4 16h1M11 16h9" }], ["circle", { cx: "16", cy: "8", r: "2.5" }], ["circle", { cx: "8", cy: "16", r: "2.5" }]],
  stop: [["rect", { x: "7", y: "7", width: "10", height: "10", rx: "1.5", fill: "currentColor" }]],
  sun: [["circle", { cx: "12", cy: "12", r: "4" }], ["path", { d: "M12 3v1.5M12 19.5V21M3 12h1.5M19.5 12H21M5.6 5.6l1.1 1.1M17.3 17.3l1.1 1.1M18.4 5.6l-1.1 1.1M6.7 17.3l-1.1 1.1" }]],
  temporary: [["path", { d: "M5 5h14a1.5 1.5 0 0 1 1.5 1.5v9a1.5 1.5 0 0 1-1.5 1.5h-8L6.5 20v-3H5a1.5 1.5 0 0 1-1.5-1.5v-9A1.5 1.5 0 0 1 5 5Z", "stroke-dasharray": "2.6 2.6" }]],
  theme: [["circle", { cx: "12", cy: "12", r: "8" }], ["path", { d: "M12 4a8 8 0 0 1 0 16Z", fill: "currentColor" }]],
  trash: [["path", { d: "M5 7h14M10 7V5h4v2M7 7l.8 12h8.4L17 7M10.5 11v5M13.5 11v5" }]],
  warning: [["path", { d: "M12 4 3 19.5h18L12 4ZM12 10v4.5M12 17h.01" }]],
} satisfies Record<string, Shape[]>;

export type IconName = keyof typeof ICONS;
