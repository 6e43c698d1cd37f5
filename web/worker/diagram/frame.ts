/** Draws one diagram, in a frame that can do nothing else: no origin, no network, no storage. */

interface Mermaid {
  initialize(options: object): void;
  render(id: string, source: string): Promise<{ svg: string }>;
}

/** Set by the script before this one. */
declare const mermaid: Mermaid;

export interface DiagramRequest {
  source: string;
  dark: boolean;
}

addEventListener("message", ({ data, ports }: MessageEvent<DiagramRequest>) => {
  void draw(data).then(
    (svg) => ports[0]?.postMessage(svg),
    () => ports[0]?.postMessage(null),
  );
});

async function draw({ source, dark }: DiagramRequest): Promise<string> {
  mermaid.initialize({
    startOnLoad: false,
    securityLevel: "strict",
    htmlLabels: false,
    flowchart: { htmlLabels: false },
    theme: dark ? "dark" : "default",
    fontFamily: "system-ui, sans-serif",
    suppressErrorRendering: true,
    maxEdges: 300,
    // What a diagram says of itself doesn't change these.
    secure: ["securityLevel", "startOnLoad", "htmlLabels", "flowchart", "maxEdges", "maxTextSize", "suppressErrorRendering"],
  });
  const { svg } = await mermaid.render("diagram", source);
  const holder = document.createElement("div");
  holder.innerHTML = svg;
  // As XML, which images must be.
  return new XMLSerializer().serializeToString(holder.firstElementChild as Element);
}
