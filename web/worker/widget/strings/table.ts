/** All that the widget says once it is open. Values in braces are filled in. */
import type { ConversationStrings } from "../../ui/strings.ts";
import type { LauncherStrings } from "./launcher.ts";

/** An error as people read it: what is wrong, and what to do. */
export interface ProblemText {
  message: string;
  remedy: string;
}

export type ProblemKind = "browser" | "memory" | "device" | "model" | "network" | "offline" | "context" | "other";

export interface WidgetStrings extends LauncherStrings, ConversationStrings {
  tryAgain: string;
  clear: string;
  welcome: string;
  /** Where what people type goes. */
  staysHere: string;
  /** {host} */
  goesTo: string;
  /** Where `server` may answer in the device's place: {host} */
  exception: string;
  /** {host} */
  elsewhere: string;
  /** {host} */
  askElsewhere: string;
  starters: string;
  messages: string;
  message: string;
  placeholder: string;
  send: string;
  stop: string;
  latest: string;
  mistakes: string;
  notices: string;
  checking: string;
  consentTitle: string;
  /** {size} */
  consentText: string;
  /** Where the browser won't keep it: {size} */
  consentUnkept: string;
  /** {size} */
  download: string;
  downloading: string;
  /** {loaded}, {total} */
  downloaded: string;
  preparing: string;
  pause: string;
  paused: string;
  resume: string;
  ready: string;
  loadFirst: string;
  waiting: string;
  thinking: string;
  /** Ends the announcement of a long answer. */
  andMore: string;
  /** {size} */
  notKept: string;
  /** Where the browser keeps nothing at all: {size} */
  keepsNothing: string;
  damaged: string;
  deviceLost: string;
  deviceBack: string;
  slow: string;
  details: string;
  problems: Record<ProblemKind, ProblemText>;
}
