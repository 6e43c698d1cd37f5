/** The open widget's styles: those of any conversation, and its own. */
import card from "../ui/style/card.css" with { type: "text" };
import conversation from "../ui/style/conversation.css" with { type: "text" };
import messages from "../ui/style/messages.css" with { type: "text" };
import { sheet } from "./sheet.ts";
import panel from "./style/panel.css" with { type: "text" };

export const PANEL_SHEETS = [conversation, messages, card, panel].map(sheet);
