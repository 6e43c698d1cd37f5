/** In the place of the engine's client: scripted engines, which the test finds in `fake.engines`. */
import { FakeEngine, type Script } from "../../page/fake/engine.ts";

declare global {
  interface Window {
    /** Set before the page starts. */
    widgetScript?: Script & { missingBytes?: number };
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
    return { ...fit, missingBytes: window.widgetScript?.missingBytes ?? fit.missingBytes };
  }

  dispose(): void {
    this.disposed = true;
  }
}
