import { formatCount } from "./format.ts";

/** What the parts of a conversation say. Whole sentences, so that languages can order their words. */
export interface ConversationStrings {
  you: string;
  assistant: string;
  edit: string;
  editMessage: string;
  cancel: string;
  sendAgain: string;
  copy: string;
  copyAnswer: string;
  copyCode: string;
  copied: string;
  copyDenied: string;
  regenerate: string;
  /** Has a broken-off answer written on. */
  goOn: string;
  tryAgain: string;
  newChatFromHere: string;
  otherModels: string;
  earlierVersion: string;
  laterVersion: string;
  /** {at} and {of} */
  versionOf: string;
  /** Why an answer ended. */
  endedByLength: string;
  stopped: string;
  stoppedAtOnce: string;
  interrupted: string;
  emptyAnswer: string;
  usesTools: string;
  /** While the model thinks, and after: {seconds} */
  thinkingFor: string;
  thoughtFor: string;
  /** {name} of what the model calls. */
  toolCall: string;
  code: string;
  table: string;
  showEarlier: string;
  dismiss: string;
  /** Told of an action that a passing message offers: {action}. */
  available: string;
}

export const ENGLISH: ConversationStrings = {
  you: "You",
  assistant: "Assistant",
  edit: "Edit",
  editMessage: "Edit message",
  cancel: "Cancel",
  sendAgain: "Send again",
  copy: "Copy",
  copyAnswer: "Copy answer",
  copyCode: "Copy code",
  copied: "Copied",
  copyDenied: "Copying is not allowed here",
  regenerate: "Regenerate",
  goOn: "Continue",
  tryAgain: "Try again",
  newChatFromHere: "New chat from here",
  otherModels: "Other models",
  earlierVersion: "Earlier version",
  laterVersion: "Later version",
  versionOf: "Version {at} of {of}",
  endedByLength: "The answer reached its longest allowed length.",
  stopped: "Stopped.",
  stoppedAtOnce: "Stopped before the first word.",
  interrupted: "Interrupted: the page was closed while this was written.",
  emptyAnswer: "The model answered with nothing.",
  usesTools: "Looked something up.",
  thinkingFor: "Thinking … {seconds} s",
  thoughtFor: "Thought for {seconds} s",
  toolCall: "Tool call: {name}",
  code: "Code",
  table: "Table",
  showEarlier: "Show earlier messages",
  dismiss: "Dismiss",
  available: "{action} is available.",
};

/** What the chat page says of answers beside that. */
export interface AnswerStrings extends ConversationStrings {
  diagram: string;
  source: string;
  /** Of a diagram. */
  notDrawn: string;
}

/** A text for each way in which a language counts; {count} */
export type CountedText = Partial<Record<Intl.LDMLPluralRule, string>> & { other: string };

/** "1 token", "1,024 tokens" */
export function counted(texts: CountedText, count: number, language = "en"): string {
  const text = texts[new Intl.PluralRules(language).select(count)] ?? texts.other;
  return filled(text, { count: formatCount(count, language) });
}

/** Puts values in the place of their names in braces. */
export function filled(text: string, values: Record<string, string>): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => values[name] ?? whole);
}
