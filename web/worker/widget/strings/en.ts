import { ENGLISH } from "../../ui/strings.ts";
import { LAUNCHER } from "./launcher.ts";
import type { WidgetStrings } from "./table.ts";

export const en: WidgetStrings = {
  ...ENGLISH,
  ...LAUNCHER.en,
  clear: "New conversation",
  welcome: "How can I help?",
  staysHere: "The model runs on your device. What you type stays there.",
  goesTo: "Answers come from {host}: what you type goes there.",
  exception:
    "If this device can’t run it, answers come from {host}. Before anything you have written goes there, you are asked.",
  elsewhere: "{host} can answer instead. The conversation goes there only if you agree.",
  askElsewhere: "Continue with {host}",
  starters: "Suggestions",
  messages: "Messages",
  message: "Message",
  placeholder: "Ask something",
  send: "Send",
  stop: "Stop",
  latest: "Latest",
  mistakes: "Small models make mistakes: check what matters.",
  notices: "Notices",
  checking: "Checking this device …",
  consentTitle: "Run the assistant on your device?",
  consentText: "It downloads {size} once and keeps it in this browser. What you type stays on your device.",
  consentUnkept:
    "It must be downloaded at each visit ({size}): this browser can’t keep it. What you type stays on your device.",
  download: "Download {size}",
  downloading: "Downloading the model",
  downloaded: "{loaded} of {total}",
  preparing: "Preparing the model …",
  pause: "Pause",
  paused: "The download is paused.",
  resume: "Resume",
  ready: "The assistant is ready.",
  loadFirst: "Start the download to get the answer.",
  waiting: "Waiting for the model …",
  thinking: "Thinking …",
  andMore: "… and more.",
  notKept: "The browser has no room to keep the model ({size}): it works now, and is downloaded again next time.",
  keepsNothing:
    "This browser keeps nothing for this page: the model ({size}) works now, and is downloaded again next time.",
  damaged: "A file of the model was damaged; it is downloaded again.",
  deviceLost: "The GPU was reset by the system; starting it again.",
  deviceBack: "The GPU is back.",
  slow: "No GPU found: answers come slowly.",
  details: "Details",
  problems: {
    browser: {
      message: "This browser can’t run the assistant.",
      remedy: "Use a current Chrome, Edge, Safari or Firefox, with graphics acceleration turned on.",
    },
    memory: {
      message: "This device has too little memory for the assistant.",
      remedy: "Close other tabs and programs, then try again.",
    },
    device: { message: "The GPU stopped working.", remedy: "Try again; if it happens again, restart the browser." },
    model: {
      message: "The model’s files can’t be used.",
      remedy: "Try again later. If it stays so, tell the owner of this site.",
    },
    network: { message: "The connection failed.", remedy: "Check the connection, then try again." },
    offline: { message: "You are offline.", remedy: "It goes on by itself once you are connected." },
    context: { message: "This conversation is too long for the model.", remedy: "Begin a new one." },
    other: { message: "Something went wrong.", remedy: "Try again, or reload the page." },
  },
};
