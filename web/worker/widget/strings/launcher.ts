/** What the widget says before it was opened, in each language. */

export interface LauncherStrings {
  /** The accessible name of the whole. */
  title: string;
  open: string;
  close: string;
  opening: string;
  openFailed: string;
  tryAgain: string;
}

export const LANGUAGES = ["en", "de", "es", "ar", "zh", "ja"] as const;
export type Language = (typeof LANGUAGES)[number];

export const LAUNCHER: Record<Language, LauncherStrings> = {
  en: {
    title: "Chat",
    open: "Open chat",
    close: "Close chat",
    opening: "Opening …",
    openFailed: "The chat could not be loaded.",
    tryAgain: "Try again",
  },
  de: {
    title: "Chat",
    open: "Chat öffnen",
    close: "Chat schließen",
    opening: "Wird geöffnet …",
    openFailed: "Der Chat konnte nicht geladen werden.",
    tryAgain: "Erneut versuchen",
  },
  es: {
    title: "Chat",
    open: "Abrir el chat",
    close: "Cerrar el chat",
    opening: "Abriendo…",
    openFailed: "No se pudo cargar el chat.",
    tryAgain: "Reintentar",
  },
  ar: {
    title: "المحادثة",
    open: "فتح المحادثة",
    close: "إغلاق المحادثة",
    opening: "جارٍ الفتح…",
    openFailed: "تعذّر تحميل المحادثة.",
    tryAgain: "إعادة المحاولة",
  },
  zh: {
    title: "聊天",
    open: "打开聊天",
    close: "关闭聊天",
    opening: "正在打开……",
    openFailed: "无法加载聊天。",
    tryAgain: "重试",
  },
  ja: {
    title: "チャット",
    open: "チャットを開く",
    close: "チャットを閉じる",
    opening: "開いています…",
    openFailed: "チャットを読み込めませんでした。",
    tryAgain: "再試行",
  },
};

/** The widget's language for a tag such as "de-AT"; English for others. */
export function languageOf(tag: string): Language {
  const primary = tag.toLowerCase().split("-", 1)[0];
  return LANGUAGES.find((language) => language === primary) ?? "en";
}

export function directionOf(language: Language): "ltr" | "rtl" {
  return language === "ar" ? "rtl" : "ltr";
}
