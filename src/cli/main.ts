/** Entry of the program pg_replica: the command line. `agent` is started by the server, the rest by people. */
import { buildProgram } from "./program.js";
import { runProgram } from "./run.js";
import { realTerminal } from "./terminal.js";

process.exitCode = await runProgram(buildProgram(realTerminal()), process.argv);
