import { ar } from "./ar.ts";
import { de } from "./de.ts";
import { en } from "./en.ts";
import { es } from "./es.ts";
import { ja } from "./ja.ts";
import type { Language } from "./launcher.ts";
import type { WidgetStrings } from "./table.ts";
import { zh } from "./zh.ts";

export const STRINGS: Record<Language, WidgetStrings> = { en, de, es, ar, zh, ja };
