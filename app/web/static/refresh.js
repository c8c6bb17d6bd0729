// Keeps the dashboard current: asks again every 15 s while it is looked at, and swaps the content when it
// changed. Without this file the page is the same page, only still.
"use strict";
(() => {
  const EVERY = 15000;
  const button = document.getElementById("live");
  let timer = 0;

  const live = () => button.getAttribute("aria-pressed") === "true";
  const busy = () => document.hidden || String(document.getSelection()) !== "";

  async function refresh() {
    if (busy()) return;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
      const old = document.getElementById("main");
      button.classList.remove("stale");
      if (fresh.innerHTML === old.innerHTML) return;
      const held = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      old.replaceWith(fresh);
      if (held) fresh.querySelector(`a[href="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
    } catch {
      button.classList.add("stale");
    }
  }

  function set(on) {
    button.setAttribute("aria-pressed", String(on));
    button.textContent = on ? "Live" : "Paused";
    clearInterval(timer);
    if (on) timer = setInterval(refresh, EVERY);
  }

  button.hidden = false;
  button.title = "Update this page by itself every 15 seconds";
  button.addEventListener("click", () => set(!live()));
  document.addEventListener("visibilitychange", () => { if (live()) refresh(); });
  set(true);
})();
