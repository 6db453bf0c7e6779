// The dashboard as a person sees it. Run by `cargo xtask ci --only browser`.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { PHONE, allPages, axe, logIn, openPage, startBrowser, startServer } from './stage.mjs';

let server;
let browser;

before(async () => {
  [server, browser] = await Promise.all([startServer(), startBrowser()]);
});

after(async () => {
  await browser?.close();
  server?.stop();
});

async function person(options) {
  const opened = await openPage(browser, server, options);
  await logIn(opened.page, server);
  return opened;
}

test('a rollout halts, is aborted, and the audit tells', async () => {
  const { page, errors, close } = await person();
  await page.getByRole('region', { name: 'Rollouts' }).getByRole('link').first().click();
  const state = page.locator('#state');
  await state.getByText('running').waitFor();
  await page.evaluate(() => { globalThis.sameDocument = true; });

  // The server's events bring it; nobody loads the page again.
  await state.getByText('It halted itself').waitFor({ timeout: 60_000 });
  await state.getByText('halted', { exact: true }).waitFor();
  assert.ok(await page.evaluate(() => globalThis.sameDocument), 'the page was not loaded again');
  assert.deepEqual(await axe(page), []);
  const address = new URL(page.url()).pathname;

  // All devices that did it are one link away, and so are those of each counter.
  const link = page.locator('#waves').getByRole('link', { name: /^Show all \d+ devices? that crashed$/ });
  const offered = page.locator('td[data-label=Offered] a').first();
  for (const [one, isExact] of [[link, false], [offered, true]]) {
    const number = Number((await one.textContent()).replace(/\D/g, ''));
    const { total, rows } = await page.evaluate(async (href) => {
      const list = new DOMParser().parseFromString(await (await fetch(href)).text(), 'text/html');
      const total = Number.parseInt(list.querySelector('#devices .total').textContent, 10);
      return { total, rows: list.querySelectorAll('#devices tbody tr').length };
    }, await one.getAttribute('href'));
    // More may have crashed meanwhile.
    assert.ok(isExact ? total === number : total >= number, `${total} of ${number}`);
    assert.equal(rows, total);
  }

  // By keyboard: the button, the question, its answer.
  await state.getByRole('button', { name: 'Abort…' }).focus();
  await page.keyboard.press('Enter');
  const question = page.getByRole('dialog', { name: 'Abort…' });
  await question.waitFor();
  await page.keyboard.press('Escape');
  await question.waitFor({ state: 'hidden' });
  await page.keyboard.press('Enter');
  await question.waitFor();
  assert.deepEqual(await axe(page), []);
  const focused = page.locator(':focus');
  assert.equal(await focused.textContent(), 'Abort', 'the focus is on the answer');
  await page.keyboard.press('Enter');
  await state.getByText('aborted', { exact: true }).waitFor();
  assert.equal(await state.getByRole('button').count(), 0, 'nothing more can be done with it');

  await page.getByRole('link', { name: 'Audit' }).click();
  const line = page.locator('tbody tr', { hasText: 'rollout.abort' }).first();
  await line.waitFor();
  assert.ok(await line.locator(`a[href="${address}"]`).count() === 1, 'the line leads to the rollout');
  assert.deepEqual(errors, []);
  await close();
});

test('a refused search does not leave the old list standing', async () => {
  const { page, close } = await person();
  await page.getByRole('link', { name: 'Devices' }).click();
  await page.locator('#devices').waitFor();
  await page.locator('input[name=sequence]').fill('newest');
  await page.locator('#devices').waitFor({ state: 'detached' });
  await page.locator('#main').getByText('sequence: invalid digit').waitFor();
  assert.deepEqual(await axe(page), []);
  await close();
});

test('times are those of the reader', async () => {
  const { page, errors, close } = await person({ timezoneId: 'Asia/Kolkata' });
  await page.goto(`${server.url}/audit`);
  const time = page.locator('time.stamp').first();
  const [text, utc] = [await time.textContent(), await time.getAttribute('datetime')];
  assert.match(text, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\+5:30$/);
  const shown = new Date(text.replace(' UTC+5:30', '+05:30').replace(' ', 'T'));
  assert.equal(shown.getTime(), Math.floor(new Date(utc).getTime() / 1000) * 1000);
  assert.deepEqual(errors, []);
  await close();

  const plain = await person({ timezoneId: 'Asia/Kolkata', javaScriptEnabled: false });
  await plain.page.goto(`${server.url}/audit`);
  assert.match(await plain.page.locator('time.stamp').first().textContent(), / UTC$/);
  await plain.close();
});

test('the fleet stays up to date, and the reader stays where they are', async () => {
  const { page, errors, close } = await person({ viewport: { width: 1280, height: 400 } });
  const link = page.locator('.legend.links a').first();
  await link.focus();
  await page.evaluate(() => { globalThis.sameDocument = true; scrollTo(0, 120); });
  const scrolled = await page.evaluate(() => scrollY);
  const before = await page.locator('.as-of time').getAttribute('datetime');
  await page.waitForFunction((was) => document.querySelector('.as-of time').dateTime !== was, before, { timeout: 30_000 });
  assert.ok(await page.evaluate(() => globalThis.sameDocument), 'the page was not loaded again');
  assert.equal(await page.evaluate(() => scrollY), scrolled);
  assert.equal(await page.locator(':focus').getAttribute('href'), await link.getAttribute('href'));
  assert.deepEqual(await axe(page), []);
  assert.deepEqual(errors, []);
  await close();
});

test('nothing is asked for by itself in a hidden tab, or where motion is not wanted', async () => {
  const { page, close } = await person({ reducedMotion: 'reduce' });
  const hidden = await person();
  await hidden.page.evaluate(() => Object.defineProperty(document, 'hidden', { value: true }));
  const asked = [];
  for (const one of [page, hidden.page]) one.on('request', (request) => asked.push(request.url()));
  await page.waitForTimeout(22_000);
  assert.deepEqual(asked, []);
  await close();
  await hidden.close();
});

test('a wrong token is told so', async () => {
  const { page, close } = await openPage(browser, server);
  await page.goto(`${server.url}/devices`);
  await page.getByLabel('API token').fill('not-a-token');
  await page.keyboard.press('Enter');
  await page.getByRole('alert').getByText('does not know this token').waitFor();
  assert.deepEqual(await axe(page), []);
  await page.getByLabel('API token').fill(server.token);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Devices' }).waitFor();
  const [cookie] = await page.context().cookies();
  assert.ok(cookie.httpOnly && cookie.sameSite === 'Strict' && cookie.expires === -1, JSON.stringify(cookie));
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByLabel('API token').waitFor();
  assert.deepEqual(await page.context().cookies(), []);
  await close();
});

test('devices are found while one types', async () => {
  const { page, errors, close } = await person();
  await page.getByRole('link', { name: 'Devices', exact: true }).click();
  const rows = page.locator('tbody tr');
  await rows.first().waitFor();
  const id = await rows.nth(3).getByRole('link').first().textContent();
  const before = await rows.count();
  await page.getByLabel('Id contains').pressSequentially(id);
  await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 1);
  assert.ok(before > 1);
  assert.equal(await rows.first().getByRole('link').first().textContent(), id);
  assert.ok(page.url().includes(`q=${id}`), 'the address says what is shown');
  assert.equal(await page.locator(':focus').getAttribute('id'), 'q', 'the focus stays where one types');
  assert.deepEqual(errors, []);
  await close();
});

test('everything is reached by keyboard, and one sees where one is', async () => {
  const { page, close } = await person();
  for (const path of ['/', '/devices', '/rollouts/new', '/tokens']) {
    await page.goto(server.url + path);
    await page.evaluate(() => document.activeElement?.blur());
    const expected = await page.evaluate(() => {
      const all = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, [tabindex="0"]')];
      return all.filter((element) => element.checkVisibility() && !element.closest('[popover]')).length;
    });
    const seen = new Set();
    for (let step = 0; step < expected + 12; step += 1) {
      await page.keyboard.press('Tab');
      const found = await page.evaluate(() => {
        const element = document.activeElement;
        if (!element || element === document.body) return null;
        element.dataset.walk ??= String(document.querySelectorAll('[data-walk]').length);
        const { outlineStyle, outlineWidth } = getComputedStyle(element);
        return { walk: element.dataset.walk, html: element.outerHTML.slice(0, 120), visible: outlineStyle !== 'none' && outlineWidth !== '0px' };
      });
      if (!found) continue;
      assert.ok(found.visible, `${path}: no focus is seen on ${found.html}`);
      seen.add(found.walk);
    }
    assert.ok(seen.size >= expected, `${path}: ${seen.size} of ${expected} controls are reached by Tab`);
  }
  await page.goto(server.url);
  await page.keyboard.press('Tab');
  assert.equal(await page.locator(':focus').textContent(), 'Skip to content');
  await page.keyboard.press('Enter');
  assert.equal(await page.locator(':focus').getAttribute('id'), 'main');
  await close();
});

for (const [name, options] of [
  ['in light', { colorScheme: 'light' }],
  ['in dark', { colorScheme: 'dark' }],
  ['on a phone', { viewport: PHONE, hasTouch: true, isMobile: true }],
]) {
  test(`every page is accessible and holds its shape, ${name}`, async () => {
    const { page, errors, close } = await person(options);
    for (const [title, path] of Object.entries(await allPages(page, server))) {
      await page.goto(server.url + path);
      assert.deepEqual(await axe(page), [], title);
      const { wider, shift } = await page.evaluate(async () => {
        const shift = await new Promise((resolve) => {
          let sum = 0;
          new PerformanceObserver((list) => {
            for (const entry of list.getEntries()) sum += entry.hadRecentInput ? 0 : entry.value;
          }).observe({ type: 'layout-shift', buffered: true });
          requestAnimationFrame(() => setTimeout(() => resolve(sum), 50));
        });
        return { wider: document.documentElement.scrollWidth - document.documentElement.clientWidth, shift };
      });
      assert.equal(wider, 0, `${title} is wider than the screen`);
      if (name === 'on a phone') {
        const cut = await page.evaluate(() => [...document.querySelectorAll('main *')]
          .filter((element) => element.checkVisibility() && !element.closest('pre, svg, thead, .hidden, .skip'))
          .filter((element) => element.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
          .map((element) => element.outerHTML.slice(0, 120)));
        assert.deepEqual(cut, [], `${title} has what is cut off`);
      }
      assert.ok(shift < 0.01, `${title} shifts by ${shift}`);
    }
    assert.deepEqual(errors, []);
    await close();
  });
}
