/** Light, dark, or what the system says. */
import { byId, icon } from "../ui/dom.ts";
import type { IconName } from "../ui/icons.ts";
import { STRINGS } from "./strings.ts";

const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];
const ICONS: Record<Theme, IconName> = { system: "theme", light: "sun", dark: "moon" };
const NAMES: Record<Theme, string> = { system: STRINGS.themeSystem, light: STRINGS.themeLight, dark: STRINGS.themeDark };
const KEY = "mlc-edge.theme";

export function startTheme(): void {
  const toggle = byId("theme-button", HTMLButtonElement);
  let theme = storedTheme();
  const apply = () => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    toggle.replaceChildren(icon(ICONS[theme]));
    toggle.setAttribute("aria-label", NAMES[theme]);
    toggle.title = NAMES[theme];
  };
  toggle.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system";
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Without storage the choice lasts until the page is left.
    }
    apply();
  });
  apply();
}

function storedTheme(): Theme {
  try {
    const stored = localStorage.getItem(KEY);
    return THEMES.find((theme) => theme === stored) ?? "system";
  } catch {
    return "system";
  }
}
