# Prints whether a TCP connection from here to HOST PORT succeeds within SECONDS:
# `reached` or `not reached`. Bash opens it by itself, so that no program is needed.
reach() {
  local host=$1 port=$2 until=$((SECONDS + $3))
  while :; do
    # By another bash: one that hangs in connect() is ended from outside.
    if timeout 2 bash -c ': 3<>"/dev/tcp/$1/$2"' reach "$host" "$port" 2>/dev/null; then
      echo reached
      return
    fi
    if ((SECONDS >= until)); then
      echo not reached
      return
    fi
    sleep 0.5
  done
}
