# SPDX-License-Identifier: Apache-2.0
# Copyright the ion authors
#
# Usage: awk -f tools/examples.awk HEADER...
# Prints the code below the line of the first comment of each header that begins with "Example". The code of ion/buffer.h stands
# behind `#ifdef EXAMPLE_ion_buffer_h`, which it undefines, with its line in the header, to which errors of the compiler then
# point. Behind `#ifdef EXAMPLES` there is an #error for each example that was not compiled above.

function finish() {
  if (inside) printf "#undef EXAMPLE_%s\n#define COMPILED_%s\n#endif\n", names[n], names[n]
  inside = 0
}

FNR == 1 {
  finish()
  header = ""
}
/^\/\/ File: / { header = $3 }
inside && /^\/\/   / {
  print substr($0, 6)
  next
}
# An empty line may divide the code.
inside && /^\/\/$/ {
  print ""
  next
}
inside { finish() }
/^\/\/ Example.*:$/ {
  name = header
  gsub(/[^a-z0-9]/, "_", name)
  if (name in has) {
    print header ": one example in a header" >"/dev/stderr"
    exit failed = 1
  }
  has[name] = 1
  names[++n] = name
  printf "#ifdef EXAMPLE_%s\n#line %d \"%s\"\n", name, FNR + 1, header
  inside = 1
}
END {
  if (failed) exit failed
  finish()
  print "#ifdef EXAMPLES"
  for (i = 1; i <= n; i++) printf "#ifndef COMPILED_%s\n#error no test compiles the example of %s\n#endif\n", names[i], names[i]
  print "#endif"
}
