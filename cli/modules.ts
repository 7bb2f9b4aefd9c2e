// The modules of commands. Only that of the command that is run is loaded, because loading takes time.

export type Modules = readonly [commands: readonly string[], add: () => Promise<void>][];

/** Adds the command that the word names. All of them if it names none: for help, completion and misspelt commands. */
export async function addCommands(modules: Modules, word: string | undefined): Promise<void> {
  const named = modules.filter(([commands]) => commands.includes(word ?? ""));
  for (const [, add] of named.length > 0 ? named : modules) await add();
}
