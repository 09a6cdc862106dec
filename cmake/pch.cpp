// Carrier of the precompiled header; see TsquantBuild.cmake.
