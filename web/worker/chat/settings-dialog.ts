/** The dialog for system prompt and sampling. */
import { chatSampling, NEUTRAL, type Sampling } from "../shared/sampling-defaults.ts";
import { byId, el } from "../ui/dom.ts";
import { filled } from "../ui/strings.ts";
import type { ChatSettings } from "../ui/types.ts";
import {
  DEFAULT_SETTINGS,
  NUMBER_FIELDS,
  SAMPLING_FIELDS,
  parseSettings,
  saveDefaults,
  type SettingName,
} from "./settings.ts";
import { STRINGS } from "./strings.ts";
import { namesChats, setNamesChats } from "./titles.ts";

type Control = HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement;

export class SettingsDialog {
  readonly #dialog = byId("settings-dialog", HTMLDialogElement);
  readonly #form = byId("settings-form", HTMLFormElement);
  readonly #asDefault = byId("settings-default", HTMLInputElement);
  readonly #names = byId("settings-titles", HTMLInputElement);
  readonly #defaults = el("p", { class: "hint", id: "sampling-defaults" });
  readonly #controls = new Map<SettingName, Control>();
  readonly #wrong = new Map<SettingName, HTMLElement>();
  readonly #onSave: (settings: ChatSettings) => void;

  constructor(onSave: (settings: ChatSettings) => void) {
    this.#onSave = onSave;
    this.#build();
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save();
    });
    for (const id of ["settings-close", "settings-cancel"]) {
      byId(id, HTMLButtonElement).addEventListener("click", () => this.#dialog.close());
    }
    byId("settings-reset", HTMLButtonElement).addEventListener("click", () => this.#fill(DEFAULT_SETTINGS));
  }

  /** `named`: fields of requests that the model's files name; null where that isn't known. */
  open(settings: ChatSettings, named: Sampling | null): void {
    this.#fill(settings);
    this.#showDefaults(named);
    this.#asDefault.checked = false;
    this.#names.checked = namesChats();
    this.#dialog.showModal();
    this.#controls.get("systemPrompt")?.focus();
  }

  #build(): void {
    const fields = byId("settings-fields", HTMLElement);
    const prompt = el("textarea", { placeholder: STRINGS.none, maxlength: "20000" });
    fields.append(this.#field("systemPrompt", prompt, true));
    for (const { name, step, min, max, integer } of NUMBER_FIELDS) {
      const input = el("input", { type: "number", step, min: String(min), max: String(max) });
      input.inputMode = integer ? "numeric" : "decimal";
      input.placeholder = name === "seed" ? STRINGS.random : STRINGS.noLimit;
      fields.append(this.#field(name, input));
    }
    fields.append(this.#defaults);
    const policy = el(
      "select",
      {},
      el("option", { value: "truncate-oldest" }, STRINGS.truncateOldest),
      el("option", { value: "error" }, STRINGS.stopWithError),
    );
    fields.append(this.#field("contextPolicy", policy, true));
  }

  #field(name: SettingName, control: Control, wide = false): HTMLElement {
    control.id = `setting-${name}`;
    control.setAttribute("aria-describedby", `hint-${name} wrong-${name}`);
    const wrong = el("span", { class: "wrong", id: `wrong-${name}` });
    wrong.hidden = true;
    this.#controls.set(name, control);
    this.#wrong.set(name, wrong);
    return el(
      "div",
      { class: wide ? "field wide" : "field" },
      el("label", { class: "label", for: control.id }, STRINGS[name]),
      control,
      wrong,
      el("span", { class: "hint", id: `hint-${name}` }, STRINGS[`${name}Hint`]),
    );
  }

  #showDefaults(named: Sampling | null): void {
    const chat = named && chatSampling(named);
    const isModels = chat !== null && Object.keys(chat).length === 0;
    const values = { ...NEUTRAL, ...named, ...chat };
    for (const { name, field } of SAMPLING_FIELDS) {
      const control = this.#controls.get(name) as HTMLInputElement;
      control.placeholder = named ? String(values[field]) : STRINGS.modelsDefault;
    }
    const shown = SAMPLING_FIELDS.map(({ name, field }) => [name, String(values[field])]);
    const known = isModels ? STRINGS.emptyFieldsOfModel : STRINGS.emptyFieldsOfChats;
    this.#defaults.textContent = filled(named ? known : STRINGS.emptyFieldsLater, Object.fromEntries(shown));
  }

  #fill(settings: ChatSettings): void {
    for (const [name, control] of this.#controls) {
      const value = settings[name];
      control.value = value === null ? "" : String(value);
    }
    this.#mark({});
  }

  #save(): void {
    const raw = {} as Record<SettingName, string>;
    for (const [name, control] of this.#controls) {
      // A number field hides text that is no number: that must not pass for "empty".
      raw[name] = control.validity.badInput ? "not a number" : control.value;
    }
    const result = parseSettings(raw);
    if (!result.ok) {
      this.#mark(result.wrong);
      return;
    }
    if (this.#asDefault.checked) saveDefaults(result.settings);
    setNamesChats(this.#names.checked);
    this.#dialog.close();
    this.#onSave(result.settings);
  }

  #mark(wrong: Partial<Record<SettingName, string>>): void {
    let first: Control | null = null;
    for (const [name, control] of this.#controls) {
      const text = wrong[name] ?? "";
      const message = this.#wrong.get(name);
      if (message) {
        message.textContent = text;
        message.hidden = text === "";
      }
      if (text === "") control.removeAttribute("aria-invalid");
      else {
        control.setAttribute("aria-invalid", "true");
        first ??= control;
      }
    }
    first?.focus();
  }
}
