// The memory of the stack's processes, as Linux reports it, and the running time of the database's statements.

import { readFileSync } from "node:fs";
import type { Sql } from "postgres";

/** The value of one line in `/proc/<pid>/status`, in MB, or 0 if the process has ended. */
export function megabytesOf(pid: number, line: "VmHWM" | "RssAnon"): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return Number(new RegExp(`${line}:\\s+(\\d+) kB`).exec(status)![1]) / 1024;
  } catch {
    return 0;
  }
}

export interface Watched {
  /** The peak private memory of one backend, without the buffers that all backends share. */
  backendMegabytes: number;
  /** The longest running time that was seen for one statement. */
  statementSeconds: number;
}

/** Watches the backends of the database, and the process `functions` if given, until it is stopped. */
export function watchMemory(sql: Sql, functions?: number): { stop(): Promise<Watched & { functionsMegabytes: number }> } {
  const peak = { backendMegabytes: 0, statementSeconds: 0, functionsMegabytes: 0 };
  let isStopping = false;
  const watching = (async () => {
    while (!isStopping) {
      const backends = await sql`
        select pid, case when state = 'active' then extract(epoch from clock_timestamp() - query_start)::float else 0 end as seconds
        from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`;
      for (const { pid, seconds } of backends) {
        peak.backendMegabytes = Math.max(peak.backendMegabytes, megabytesOf(pid, "RssAnon"));
        peak.statementSeconds = Math.max(peak.statementSeconds, seconds);
      }
      if (functions) peak.functionsMegabytes = Math.max(peak.functionsMegabytes, megabytesOf(functions, "RssAnon"));
      await new Promise((later) => setTimeout(later, 50));
    }
  })();
  return {
    async stop() {
      isStopping = true;
      await watching;
      return peak;
    },
  };
}
