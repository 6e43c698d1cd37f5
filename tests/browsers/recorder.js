/* Runs in every page before its own scripts. */
(() => {
  const problems = [];
  Object.defineProperty(window, "recordedProblems", { value: problems });
  const { error } = console;
  console.error = (...values) => {
    problems.push(values.map(String).join(" "));
    error.apply(console, values);
  };
  const failed = (event) => {
    // The widget's own, which its page is to hear.
    if (event instanceof CustomEvent) return;
    const { message, target } = event;
    problems.push(message ?? `could not load ${target.src ?? target.href}`);
  };
  // Failures to load don't bubble.
  addEventListener("error", failed, true);
  addEventListener("unhandledrejection", ({ reason }) => problems.push(`rejected: ${reason}`));
  document.addEventListener("securitypolicyviolation", (event) =>
    problems.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`),
  );
})();
