/** Folders of the tests' own, which are gone when the tests end, or are interrupted. */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TOP } from "./processes.ts";

const all = mkdtempSync(join(tmpdir(), "listings-"));
export const removeFolders = () => rmSync(all, { recursive: true, force: true });
process.on("exit", removeFolders);

/** Makes an empty folder, and returns its path. */
export const emptyFolder = () => mkdtempSync(join(all, "folder-"));

/** Makes a folder with the suite in it, and more of the project, as a reader has it. */
export function copyOfSuite(...more: string[]): string {
  const folder = emptyFolder();
  for (const file of [...new Bun.Glob("*.ts").scanSync(TOP), ...more]) {
    cpSync(join(TOP, file), join(folder, file), { recursive: true });
  }
  return folder;
}
