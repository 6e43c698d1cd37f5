/** Shows a text that may grow; `isComplete` once it won't any more by itself. */
export interface TextView {
  update(text: string, isComplete: boolean): void;
}

/** Makes the view of one text in an element that is its own. */
export type TextViews = (target: HTMLElement) => TextView;
