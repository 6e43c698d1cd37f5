/** The script of the open widget, which no page loads before. */
import { EngineError } from "../shared/errors.ts";
import type * as PanelScript from "./panel.ts";

/** Beside this one: the build fills it in, with its hash in a site's folder. */
declare const WIDGET_PANEL: string;
declare const IN_SITE: boolean;

/** A script that says nothing for so long counts as one that can't be had. */
const PATIENCE_MS = 30_000;

let failures = 0;

/** Throws EngineError "network_error". Widgets get one script: it holds the engines that they share. */
export async function loadPanelScript(): Promise<typeof PanelScript> {
  // Browsers remember of an address that it failed; apps' bundlers must see a plain one.
  const again = `${WIDGET_PANEL}?${failures}`;
  try {
    const script = IN_SITE && failures > 0 ? import(again) : import(WIDGET_PANEL);
    return (await Promise.race([script, silence()])) as typeof PanelScript;
  } catch (error) {
    failures += 1;
    throw new EngineError({
      code: "network_error",
      message: `The widget's script could not be loaded: ${String(error)}`,
      remedy: "Check the connection, and the site with `mlc-edge site --check`.",
    });
  }
}

function silence(): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`nothing came for ${PATIENCE_MS / 1000} s`)), PATIENCE_MS);
  });
}
