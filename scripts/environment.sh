# Sourced by the scripts: the virtual environment and what a bare machine lacks.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 3; }

# Install Debian packages where this user may, else name the command that does it.
need_packages() {
  [ $# -gt 0 ] || return 0
  local as=()
  command -v apt-get >/dev/null || die "this machine lacks $*; install them with its package manager, then run this again"
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || die "this machine lacks $*; run: sudo apt-get install -y $*"
    as=(sudo -n)
  fi
  say "installing $* …"
  "${as[@]}" apt-get update -qq >&2 || say "the package lists could not be refreshed; trying with those at hand"
  DEBIAN_FRONTEND=noninteractive "${as[@]}" apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
    die "apt-get could not install $*; run: sudo apt-get install -y $*"
}

# Name the Debian package of each command or library that is missing: COMMAND=PACKAGE or LIBRARY.so=PACKAGE.
missing_packages() {
  local pair name
  for pair in "$@"; do
    name=${pair%%=*}
    case $name in
      *.so*) /sbin/ldconfig -p 2>/dev/null | grep -q "$name" || printf '%s\n' "${pair#*=}" ;;
      *) command -v "$name" >/dev/null || [ -x "/sbin/$name" ] || printf '%s\n' "${pair#*=}" ;;
    esac
  done | sort -u
}

python_command() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  return 1
}

make_venv() {
  local python version
  .venv/bin/python -c 'import sys' 2>/dev/null && return 0
  if ! python=$(python_command); then
    # shellcheck disable=SC2046
    need_packages $(missing_packages python3=python3)
    python=$(python_command) || die "Shoplens needs Python 3.11 or newer; install it and run: PYTHON=python3.11 $0"
  fi
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')
    need_packages "python$version-venv"
  fi
  "$python" -m venv --clear .venv || die "no virtual environment could be made in .venv"
}

bootstrap_uv() {
  make_venv
  .venv/bin/uv --version >/dev/null 2>&1 && return 0
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r scripts/locks/uv.txt ||
    die "uv could not be installed; is the package index reachable?"
}

# The locks that hold all that another one does.
wider_locks() {
  case $1 in
    serve) echo "import train test" ;;
    import) echo "train test" ;;
    train) echo "test" ;;
  esac
}

# Make .venv hold what a lock (serve, import, train, test) names; done in a moment where it does already.
environment() {
  local lock=$1 wider
  for wider in "$lock" $(wider_locks "$lock"); do
    [ "$(cat .venv/.lock 2>/dev/null)" = "$(stamp "$wider")" ] && return 0
  done
  bootstrap_uv
  say "installing the dependencies of scripts/locks/$lock.txt (several GB the first time) …"
  rm -f .venv/.lock
  .venv/bin/uv pip sync --python .venv/bin/python --require-hashes "scripts/locks/$lock.txt" ||
    die "the dependencies could not be installed; is the package index reachable, and 10 GB of disk free?"
  .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable . ||
    die "Shoplens itself could not be installed into .venv"
  stamp "$lock" > .venv/.lock
}

stamp() { printf '%s %s\n' "$1" "$(cat "scripts/locks/$1.txt" pyproject.toml | sha256sum | cut -c1-64)"; }
