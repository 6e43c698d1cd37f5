/** The script of the open widget, which no page loads before. */
import type * as PanelScript from "./panel.ts";

/** Beside this one: the build fills it in, with its hash in a site's folder. */
declare const WIDGET_PANEL: string;
declare const IN_SITE: boolean;

let failures = 0;

/** Rejects where it can't be had. Widgets get one script: it holds the engines that they share. */
export async function loadPanelScript(): Promise<typeof PanelScript> {
  // Browsers remember of an address that it failed; apps' bundlers must see a plain one.
  const again = `${WIDGET_PANEL}?${failures}`;
  try {
    const script: unknown = IN_SITE && failures > 0 ? await import(again) : await import(WIDGET_PANEL);
    return script as typeof PanelScript;
  } catch (error) {
    failures += 1;
    throw new Error("The widget's script could not be loaded.", { cause: error });
  }
}
