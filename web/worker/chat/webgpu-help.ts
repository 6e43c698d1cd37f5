/** What people can do when their browser offers no WebGPU. */
import { el } from "../ui/dom.ts";

const BROWSERS = [
  "Chrome or Edge 127 and later on Windows, macOS and ChromeOS, 144 and later on Linux with an Intel GPU of 2020 or later; Chrome 127 and later on Android 12.",
  "Safari 26 and later on macOS, iOS, iPadOS and visionOS.",
  "Firefox 141 and later on Windows, 147 and later on Macs with Apple silicon (145 on macOS 26).",
  "Chrome on other Linux machines: open chrome://flags, turn on “Unsafe WebGPU Support” and “Vulkan”, then restart. Or start it with --enable-unsafe-webgpu --enable-features=Vulkan.",
  "In any of them: turn on “Use graphics acceleration when available” and update the graphics driver.",
];

const SECURE =
  "This page was loaded over plain http. Browsers give WebGPU to https and localhost only: open it through https.";

export function webgpuHelp(): HTMLElement {
  const list = el("ul", {}, ...BROWSERS.map((text) => el("li", {}, text)));
  if (!window.isSecureContext) list.prepend(el("li", {}, SECURE));
  const details = el("details", { class: "help" }, el("summary", {}, "Which browsers work"), list);
  details.open = !window.isSecureContext;
  const kept = "Your conversations are still here to read and to export.";
  return el("div", {}, details, el("p", { class: "remedy" }, kept));
}
