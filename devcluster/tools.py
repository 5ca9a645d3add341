"""The programs of this machine that containers find in their PATH, as far as it has them; all others they do not."""

# fmt: off
TOOLS = (
    "[", "ash", "awk", "base32", "base64", "basename", "bash", "bc", "bunzip2", "bzcat", "bzip2", "cat", "chgrp",
    "chmod", "chown", "cksum", "clear", "cmp", "comm", "cp", "cpio", "csplit", "curl", "cut", "dash", "date", "dd",
    "df", "diff", "dirname", "dos2unix", "du", "echo", "egrep", "env", "expand", "expr", "factor", "false", "fgrep",
    "find", "flock", "fmt", "fold", "free", "fuser", "getopt", "git", "grep", "groups", "gunzip", "gzip", "head",
    "hexdump", "hostid", "hostname", "iconv", "id", "install", "ionice", "jq", "join", "kill", "killall", "less",
    "link", "ln", "logger", "logname", "ls", "lsof", "lz4", "md5sum", "mkdir", "mkfifo", "mknod", "mktemp", "more",
    "mount", "mountpoint", "mv", "nc", "nice", "nl", "nohup", "nproc", "numfmt", "od", "openssl", "paste", "patch",
    "perl", "pgrep", "ping", "pkill", "printenv", "printf", "ps", "pwd", "readlink", "realpath", "renice", "reset",
    "rev", "rm", "rmdir", "sed", "seq", "setsid", "sh", "sha1sum", "sha256sum", "sha512sum", "shred", "shuf", "sleep",
    "sort", "split", "ssh", "stat", "stdbuf", "strings", "stty", "su", "sum", "sync", "tac", "tail", "tar", "tee",
    "test", "time", "timeout", "top", "touch", "tr", "true", "truncate", "tsort", "tty", "ulimit", "umount", "uname",
    "unexpand", "uniq", "unlink", "unxz", "unzip", "uptime", "users", "uuidgen", "vi", "vmstat", "watch", "wc", "wget",
    "which", "who", "whoami", "xargs", "xxd", "xz", "yes", "zcat", "zip", "zstd",
)
# fmt: on
