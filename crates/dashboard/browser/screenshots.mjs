// docs/screenshots/: every page on a desktop, and some on a phone in the dark.
// `cargo xtask screenshots` builds the server and runs this.

import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { PHONE, allPages, logIn, openPage, startBrowser, startServer } from './stage.mjs';

const FOLDER = fileURLToPath(new URL('../../../docs/screenshots/', import.meta.url));
const ON_A_PHONE = ['fleet', 'devices', 'rollout'];

mkdirSync(FOLDER, { recursive: true });
const [server, browser] = await Promise.all([startServer(), startBrowser()]);
try {
  const desktop = await openPage(browser, server);
  await desktop.page.goto(`${server.url}/login`);
  await desktop.page.screenshot({ path: `${FOLDER}login.png` });
  await logIn(desktop.page, server);
  await desktop.page.goto(`${server.url}/rollouts`);
  await desktop.page.getByRole('region', { name: 'Rollouts' }).getByRole('link').first().click();
  await desktop.page.getByText('It halted itself').waitFor({ timeout: 90_000 });
  // The plots fill.
  await desktop.page.waitForTimeout(15_000);
  const pages = await allPages(desktop.page, server, '/devices?health=crashing');
  // Nobody waits in the demo.
  delete pages.approvals;
  for (const [name, path] of Object.entries(pages)) {
    await desktop.page.goto(server.url + path);
    await desktop.page.screenshot({ path: `${FOLDER}${name}.png` });
  }
  const phone = await openPage(browser, server, { viewport: PHONE, isMobile: true, colorScheme: 'dark' });
  await logIn(phone.page, server);
  for (const name of ON_A_PHONE) {
    await phone.page.goto(server.url + pages[name]);
    await phone.page.screenshot({ path: `${FOLDER}${name}-phone.png` });
  }
} finally {
  await browser.close();
  server.stop();
}
