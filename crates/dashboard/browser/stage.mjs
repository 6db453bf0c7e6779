// What the tests share: a server with a fleet, Chromium, and a person who is logged in.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

// As a container's root, and without the browser's own traffic.
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 360, height: 740 };

/** What serves while the browser looks: it prints `{"url": …, "token": …}` as a line, and ends by itself should nobody end it. */
const DEMO = ['demo', '--dashboard', '--json', '--for', '300'];

/** Starts the program in DASHBOARD_STAGE, the command line of Pitstop. */
export async function startServer() {
  const program = process.env.DASHBOARD_STAGE;
  assert.ok(program, 'DASHBOARD_STAGE is the program that serves; `cargo xtask ci --only browser` sets it');
  const server = spawn(program, DEMO, { stdio: ['ignore', 'pipe', 'inherit'] });
  const failed = new Promise((_, reject) => {
    server.once('error', reject);
    server.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  });
  failed.catch(() => {});
  const ready = (async () => {
    for await (const line of createInterface({ input: server.stdout })) {
      const said = line.startsWith('{') ? JSON.parse(line) : {};
      if (said.url && said.token) return said;
    }
    return failed;
  })();
  const { url, token } = await Promise.race([ready, failed]);
  server.stdout.resume();
  return { url: url.replace(/\/$/, ''), token, stop: () => server.kill() };
}

export async function startBrowser() {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  assert.ok(existsSync(executablePath), `${executablePath} is not there: install chromium, or set CHROMIUM`);
  return chromium.launch({ executablePath, args: FLAGS });
}

/** A page of a browser of its own, and what went wrong on it: errors on the console, requests to elsewhere. */
export async function openPage(browser, server, options = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, colorScheme: 'light', ...options });
  const page = await context.newPage();
  const errors = [];
  page.on('console', (message) => {
    // What htmx prints when a page is left while its events still come.
    const left = message.text() === '[object Event]' || message.text().startsWith('htmx:sseError');
    if (message.type() === 'error' && !left) errors.push(message.text());
  });
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('request', (request) => {
    if (!request.url().startsWith(server.url) && !request.url().startsWith('data:')) errors.push(`asks ${request.url()}`);
  });
  page.setDefaultTimeout(15_000);
  return { page, errors, close: () => context.close() };
}

export async function logIn(page, server) {
  await page.goto(`${server.url}/login`);
  await page.getByLabel('API token').fill(server.token);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { name: 'Fleet', exact: true }).waitFor();
}

/** Every page that there is, by name; the first device (of the list `devices`), release and rollout stand for all. */
export async function allPages(page, server, devices = '/devices') {
  const first = async (list, pattern) => {
    await page.goto(server.url + list);
    const links = await page.locator('main a').evaluateAll((all) => all.map((a) => a.getAttribute('href')));
    const link = links.find((href) => pattern.test(href));
    assert.ok(link, `${list} has no link like ${pattern}`);
    return link;
  };
  return {
    fleet: '/',
    devices: '/devices',
    device: await first(devices, /^\/devices\/[^?]/),
    approvals: '/approvals',
    products: '/products',
    product: await first('/products', /^\/products\/[^/]+$/),
    releases: '/releases',
    release: await first('/releases', /^\/releases\/[^/]+\/\d+$/),
    rollouts: '/rollouts',
    rollout: await first('/rollouts', /^\/rollouts\/(?!new)[^?]+$/),
    'new-rollout': '/rollouts/new',
    audit: '/audit',
    tokens: '/tokens',
  };
}

/** What axe finds against WCAG 2.1 AA and its best practices; empty when all is well. */
export async function axe(page) {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.map((violation) => `${violation.id}: ${violation.help}\n    ${violation.nodes.map((node) => node.html).join('\n    ')}`);
}
