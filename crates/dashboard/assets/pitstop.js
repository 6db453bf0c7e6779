// Times in the reader's zone, and pages that stay up to date. Without it times are in UTC, and a page is as old as it is.
(() => {
  'use strict';

  const REFRESH_MS = 15_000;
  const UNITS = [[2 * 86_400, 86_400, 'd'], [2 * 3600, 3600, 'h'], [120, 60, 'min'], [0, 1, 's']];
  const still = matchMedia('(prefers-reduced-motion: reduce)');
  const two = (number) => String(number).padStart(2, '0');

  function zone(at) {
    const minutes = -at.getTimezoneOffset();
    if (minutes === 0) return 'UTC';
    const size = Math.abs(minutes);
    const rest = size % 60 ? `:${two(size % 60)}` : '';
    return `UTC${minutes < 0 ? '−' : '+'}${Math.floor(size / 60)}${rest}`;
  }

  function clock(at) {
    return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  }

  function exact(at) {
    return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(at)} ${zone(at)}`;
  }

  function day(at) {
    const month = at.toLocaleString('en', { month: 'short' });
    return `${two(at.getDate())} ${month} ${two(at.getHours())}:${two(at.getMinutes())}`;
  }

  // As `relative` of view.rs.
  function ago(at) {
    const seconds = Math.trunc((Date.now() - at) / 1000);
    const size = Math.abs(seconds);
    if (size < 5) return 'now';
    const [, unit, name] = UNITS.find(([from]) => size >= from);
    const text = `${Math.floor(size / unit)} ${name}`;
    return seconds < 0 ? `in ${text}` : `${text} ago`;
  }

  const SHAPES = { stamp: exact, clock, day, ago };

  function localize(root) {
    const times = [...root.querySelectorAll('time[datetime]')];
    if (root.matches?.('time[datetime]')) times.push(root);
    for (const time of times) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      for (const [name, shape] of Object.entries(SHAPES)) {
        if (!time.classList.contains(name)) continue;
        const text = shape(at);
        if (time.textContent !== text) time.textContent = text;
      }
      time.title = exact(at);
    }
  }

  // Makes one node like another and touches no more than differs: what has the focus keeps it, and what is scrolled stays.
  function morph(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(fresh);
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const [before, after] = [[...old.childNodes], [...fresh.childNodes]];
    after.forEach((child, index) => (before[index] ? morph(before[index], child) : old.append(child)));
    before.slice(after.length).forEach((child) => child.remove());
  }

  let refreshed = Date.now();

  // Asks for the page again while somebody looks at it. Whoever wants no motion has the link.
  async function refresh() {
    const parts = document.querySelectorAll('[data-live]');
    if (parts.length === 0 || document.hidden || still.matches || Date.now() - refreshed < REFRESH_MS) return;
    refreshed = Date.now();
    try {
      const answer = await fetch(location.href, { signal: AbortSignal.timeout(REFRESH_MS) });
      if (answer.redirected) location.reload();
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      for (const part of parts) {
        const fresh = page.getElementById(part.id);
        if (!fresh || !part.isConnected) continue;
        localize(fresh);
        morph(part, document.importNode(fresh, true));
      }
    } catch {
      // The server is away: the page is as it was, and says of when.
    }
  }

  localize(document);
  document.addEventListener('htmx:load', (event) => localize(event.target));
  document.addEventListener('visibilitychange', refresh);
  setInterval(() => {
    if (document.hidden) return;
    localize(document);
    refresh();
  }, 5000);
})();
