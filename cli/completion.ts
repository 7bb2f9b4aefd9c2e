// `remuda completion <shell>`: a script that completes commands, options and their choices. It is made from the
// commands themselves, and has all words in it, so that a shell need not start Node at each Tab.
import { Argument, type Command } from "commander";
import { print } from "./output.ts";

const shells = ["bash", "zsh", "fish"] as const;

export function addCompletion(program: Command): void {
  program
    .command("completion")
    .description("print a script that completes commands and options in a shell")
    .addArgument(new Argument("<shell>").choices(shells))
    .action((shell: (typeof shells)[number]) => print(shell === "fish" ? forFish(program) : forBash(program, shell)));
}

interface Completed {
  /** `proxies list`; empty for the program itself. */
  path: string;
  command: Command;
}

function all(command: Command, path = ""): Completed[] {
  const below = command.commands.flatMap((each) => all(each, path === "" ? each.name() : `${path} ${each.name()}`));
  return [{ path, command }, ...below];
}

function optionsOf(command: Command): { long: string; choices: readonly string[]; description: string }[] {
  return command.options.flatMap(({ long, argChoices = [], description, hidden }) =>
    long === undefined || long === null || hidden ? [] : [{ long, choices: argChoices, description }],
  );
}

function wordsOf(command: Command): string[] {
  const choices = command.registeredArguments.flatMap(({ argChoices = [] }) => argChoices);
  const names = command.commands.map((each) => each.name());
  return [...names, ...choices, ...optionsOf(command).map(({ long }) => long), "--help"];
}

/** zsh reads the same script, by its emulation of bash's completion. */
function forBash(program: Command, shell: "bash" | "zsh"): string {
  const commands = all(program);
  const paths = commands.filter(({ path }) => path !== "").map(({ path }) => `"${path}"`);
  const choices = commands.flatMap(({ path, command }) =>
    optionsOf(command)
      .filter((option) => option.choices.length > 0)
      .map((option) => `    "${path} ${option.long}") words="${option.choices.join(" ")}" ;;`),
  );
  const words = commands.map(({ path, command }) => `      "${path}") words="${wordsOf(command).join(" ")}" ;;`);
  return `${shell === "zsh" ? "autoload -U +X bashcompinit && bashcompinit\n" : ""}_remuda() {
  local word="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" path="" words="" each
  for each in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "\${path:+$path }$each" in
      ${paths.join("|")}) path="\${path:+$path }$each" ;;
    esac
  done
  case "$path $before" in
${choices.join("\n")}
    *) case "$path" in
${words.join("\n")}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _remuda remuda`;
}

function forFish(program: Command): string {
  const lines = all(program).flatMap(({ path, command }) => {
    const seen = path.split(" ").map((name) => `__fish_seen_subcommand_from ${name}`);
    const names = command.commands.map((each) => each.name());
    const here = path === "" ? "__fish_use_subcommand" : seen.join("; and ");
    const before =
      path === "" || names.length === 0 ? here : `${here}; and not __fish_seen_subcommand_from ${names.join(" ")}`;
    const say = (text: string): string => `-d '${text.replaceAll("'", "\\'")}'`;
    return [
      ...command.commands.map(
        (each) => `complete -c remuda -f -n '${before}' -a ${each.name()} ${say(each.description())}`,
      ),
      ...command.registeredArguments
        .filter(({ argChoices }) => argChoices !== undefined)
        .map(({ argChoices = [] }) => `complete -c remuda -f -n '${here}' -a '${argChoices.join(" ")}'`),
      ...optionsOf(command).map(({ long, choices, description }) => {
        const values = choices.length === 0 ? "" : ` -xa '${choices.join(" ")}'`;
        return `complete -c remuda -n '${here}' -l ${long.slice(2)}${values} ${say(description)}`;
      }),
    ];
  });
  return lines.join("\n");
}
