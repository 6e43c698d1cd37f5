#!/usr/bin/python3
"""A WebKitGTK window without controls, for WebKitWebDriver to start: Debian's Python, not ours.

Beside MiniBrowser it can be as narrow as a phone, and runs a script before each page's own.
"""

import os
import sys
from pathlib import Path

import gi

gi.require_version("Gtk", "3.0")
gi.require_version("WebKit2", "4.1")
from gi.repository import Gtk, WebKit2  # noqa: E402

NAME_FOR_SELENIUM = "MiniBrowser"
# On in Safari, and off by default in GTK's build of the same engine.
FEATURES_OF_SAFARI = {
    "AccessHandle",
    "FileSystem",
    "FileSystemWritableStream",
    "StorageAPI",
    "StorageAPIEstimate",
}


def accept(context: WebKit2.WebContext, session: WebKit2.AutomationSession) -> None:
    application = WebKit2.ApplicationInfo()
    application.set_name(NAME_FOR_SELENIUM)
    session.set_application_info(application)
    session.connect("create-web-view", lambda _: open_window(context))


def open_window(context: WebKit2.WebContext) -> WebKit2.WebView:
    script = WebKit2.UserScript.new(
        Path(os.environ["BROWSER_INIT_SCRIPT"]).read_text(),
        WebKit2.UserContentInjectedFrames.ALL_FRAMES,
        WebKit2.UserScriptInjectionTime.START,
        None,
        None,
    )
    content = WebKit2.UserContentManager()
    content.add_script(script)
    view = WebKit2.WebView(
        web_context=context, user_content_manager=content, is_controlled_by_automation=True
    )
    settings = view.get_settings()
    features = WebKit2.Settings.get_all_features()
    for feature in map(features.get, range(features.get_length())):
        if feature.get_identifier() in FEATURES_OF_SAFARI:
            settings.set_feature_enabled(feature, True)
    window = Gtk.Window()
    window.set_default_size(1280, 800)
    window.add(view)
    window.show_all()
    return view


def main() -> None:
    folder = os.environ["BROWSER_PROFILE"]
    data = WebKit2.WebsiteDataManager(base_data_directory=folder, base_cache_directory=folder)
    context = WebKit2.WebContext(website_data_manager=data)
    context.set_automation_allowed(True)
    context.connect("automation-started", accept)
    Gtk.main()


if __name__ == "__main__":
    sys.exit(main())
