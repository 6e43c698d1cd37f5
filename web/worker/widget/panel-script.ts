/** The script of the open widget, which no page loads before. */
import type * as PanelScript from "./panel.ts";

/** Beside this one: the build fills it in, with its hash in a site's folder. */
declare const WIDGET_PANEL: string;
declare const IN_SITE: boolean;

let attempts = 0;

/** Rejects where it can't be had. */
export async function loadPanelScript(): Promise<typeof PanelScript> {
  attempts += 1;
  // Browsers remember of an address that it failed; apps' bundlers must see a plain one.
  const again = `${WIDGET_PANEL}?${attempts}`;
  try {
    const script: unknown = IN_SITE && attempts > 1 ? await import(again) : await import(WIDGET_PANEL);
    attempts = 0;
    return script as typeof PanelScript;
  } catch (error) {
    throw new Error("The widget's script could not be loaded.", { cause: error });
  }
}
