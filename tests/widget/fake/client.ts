/** In the place of the engine's client: scripted engines, which the test finds in `fake.engines`. */
import type { Problem } from "../../../web/worker/ui/types.ts";
import { FakeEngine, type Script } from "../../page/fake/engine.ts";

declare global {
  interface Window {
    /** Set before the page starts. */
    widgetScript?: Script & { missingBytes?: number; keepsNothing?: boolean; shortOf?: Problem };
    widgetEngines?: EngineClient[];
  }
}

export class EngineClient extends FakeEngine {
  disposed = false;

  constructor() {
    super(window.widgetScript ?? {});
    window.widgetEngines = [...(window.widgetEngines ?? []), this];
  }

  override async check(url: string) {
    const fit = await super.check(url);
    const { missingBytes = fit.missingBytes, keepsNothing = false, shortOf } = window.widgetScript ?? {};
    const problems = shortOf ? [shortOf] : fit.problems;
    return { ...fit, problems, missingBytes, storage: { available: !keepsNothing } };
  }

  dispose(): void {
    this.disposed = true;
  }
}
