# A small real closure made of Debian's own files: `hello`, and the glibc that
# it refers to. Nix's scan of the output finds the reference. Needs no network;
# build without a sandbox (see tests/hello-closure).
{ hello ? "/usr/bin/hello"
, patchelf ? "/usr/bin/patchelf"
, libdir
, loader # file name of the dynamic loader
}:
let
  system = builtins.currentSystem;
  sh = name: script: derivation {
    inherit name system;
    builder = "/bin/sh";
    args = [ "-euc" "PATH=/usr/bin:/bin; ${script}" ];
  };
  glibc = sh "glibc-debian" ''
    mkdir -p $out/lib
    cp ${libdir}/libc.so.6 ${libdir}/${loader} $out/lib/
  '';
in
sh "hello-debian" ''
  mkdir -p $out/bin
  cp ${hello} $out/bin/hello
  chmod 755 $out/bin/hello
  ${patchelf} --set-interpreter ${glibc}/lib/${loader} --set-rpath ${glibc}/lib $out/bin/hello
''
