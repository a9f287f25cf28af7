"""TextCraft: gather and craft items of Minecraft by written recipes."""
