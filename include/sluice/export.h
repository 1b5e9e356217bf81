/* Marks what the shared library exports. Everything else stays hidden. */
#ifndef SLUICE_EXPORT_H
#define SLUICE_EXPORT_H

#define SLUICE_API __attribute__((visibility("default")))

#ifdef __cplusplus
#define SLUICE_BEGIN extern "C" {
#define SLUICE_END   }
#else
#define SLUICE_BEGIN
#define SLUICE_END
#endif

#endif
