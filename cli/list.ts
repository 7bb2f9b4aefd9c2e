// A list as a table: its columns, and the order of its rows (`--sort`).
import { type Command, InvalidArgumentError } from "commander";
import type { Colour } from "./colour.ts";
import { Table } from "./output.ts";

type Cell = string | number | undefined;

export interface Column<Item> {
  name: string;
  cell: (item: Item) => Cell;
  /** The value to sort by, if it is not the cell. */
  by?: (item: Item) => Cell;
  colour?: (cell: string) => Colour | undefined;
}

export interface Order {
  column: string;
  isReverse: boolean;
}

/** Adds `--sort`. */
export function sortOption<Item>(command: Command, columns: readonly Column<Item>[]): Command {
  const names = columns.map(({ name }) => nameIn(name));
  return command.option(
    "--sort <column>",
    `sort by ${names.join(", ")}; in reverse with a dash (-${names[0]})`,
    (text) => {
      const isReverse = text.startsWith("-");
      const column = (isReverse ? text.slice(1) : text).toLowerCase();
      if (names.includes(column)) return { column, isReverse };
      throw new InvalidArgumentError(`It must be ${names.join(", ")}, or one of them with a dash first.`);
    },
  );
}

/** The name of a column for an option: `last-read`. */
function nameIn(name: string): string {
  return name.toLowerCase().replaceAll(" ", "-");
}

/** Items without a value are last, in either order. */
export function sorted<Item>(
  items: readonly Item[],
  columns: readonly Column<Item>[],
  { column, isReverse }: Order,
): Item[] {
  const { cell, by = cell } = columns.find(({ name }) => nameIn(name) === column) ?? { cell: () => undefined };
  const sign = isReverse ? -1 : 1;
  return items.toSorted((one, other) => {
    const [a, b] = [by(one) ?? "", by(other) ?? ""];
    if (a === b) return 0;
    if (a === "" || b === "") return a === "" ? 1 : -1;
    return a < b ? -sign : sign;
  });
}

/** Prints pages of a list under one head. */
export function printer<Item>(columns: readonly Column<Item>[]): (items: readonly Item[]) => void {
  const colours = Object.fromEntries(columns.flatMap(({ name, colour }) => (colour ? [[name, colour]] : [])));
  const table = new Table(
    columns.map(({ name }) => name),
    colours,
  );
  return (items) => table.print(items.map((item) => columns.map(({ cell }) => cell(item))));
}
